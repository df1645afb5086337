"""Pause a Prefect run until a person approves or refuses the release in the server's pages."""

from typing import Literal

from prefect import get_client, get_run_logger
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout, PrefectHTTPStatusError
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from prefect.states import Running
from pydantic import Field

from flows.approval import OpenDecision
from flows.summary import REPORT, Summary

POLL_S = 5
VISIBLE = r"^[^\s](.*[^\s])?$"  # one line that neither begins nor ends with a space


class ReleaseDecision(RunInput):
    """The form that a person fills in to resume the run."""

    approver: str = Field(
        min_length=1, max_length=200, pattern=VISIBLE,
        description="Your name; it stands in the data card.",
    )  # fmt: skip
    decision: Literal["approve", "refuse"] = Field(description="Whether it may be released.")
    note: str = Field(
        "", max_length=1000, description="Why; it stands in the data card or in the refusal."
    )


def can_be_answered() -> bool:
    """Check whether a person can answer: the run is a deployment's, on a server with pages."""
    if not deployment.id:
        return False
    try:
        with get_client(sync_client=True) as client:
            settings = client.request("GET", "/admin/settings").json()
    except PrefectHTTPStatusError:
        return True  # Prefect Cloud tells no settings, and has pages
    return bool(settings.get("server", {}).get("ui", {}).get("enabled", True))


def ask_person(
    open_decision: OpenDecision, summary: Summary, hours: float
) -> ReleaseDecision | None:
    """Pause the run until a person decides; return None where nobody does in time."""
    form = ReleaseDecision.with_initial_data(
        description=f"# May this be released?\n\n{summary.line}\n\n[The report]"
        f"({REPORT.resolve().as_uri()}) lies at `{REPORT.resolve()}`; verdict, lift and sample"
        f" sheets are among this run's artifacts.\n\nDigest of the candidate:"
        f" `{open_decision.digest}`"
    )
    try:
        return pause_flow_run(
            wait_for_input=form, timeout=max(1, round(3600 * hours)), poll_interval=POLL_S
        )
    except FlowPauseTimeout:
        get_run_logger().warning("nobody decided within %g hours", hours)
        resume_run()
        return None


def resume_run() -> None:
    """Set the run's state to running; after its deadline the server would otherwise fail it."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(context.flow_run.id, Running(), force=True)
