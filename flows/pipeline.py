"""Run the DAG of `dvc.yaml` as a Prefect flow.

DVC says what changed; each changed stage becomes a Prefect task that runs the stage through DVC.
DVC alone caches, so that `dvc repro` has nothing to do after a flow, nor a flow after `dvc repro`.
"""

import os
from typing import Any, Literal

import httpx
import typer
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import approval, approval_pause, prefect_artifacts, preflight, summary
from flows.clone_lock import exclusive_run, wait_for_other_run
from flows.dvc_graph import print_to_stderr, read_plan, sort_lock
from flows.entry_point import (
    DONE,
    OTHER,
    REJECTED,
    Workers,
    end_on_sigterm,
    print_error,
    run_command,
)
from flows.prefect_server import ensure_server
from flows.run_failure import StageFailed, hide_tracebacks
from flows.stage_runs import run_changed_stages
from tasks.stage.errors import WRONG_INPUT, InputError


@flow(name="auglift", persist_result=False)
def pipeline(workers: int = 0, approval_hours: float = 24) -> State[Any]:
    """Run what changed, independent stages in parallel, and end in the state the gate decides.

    Where only a person's approval is missing, a deployment's run pauses for it.

    Args:
        workers: How many stages run at once; 0 for as many as there are processors.
        approval_hours: How long to wait for an approval; then the run ends without it.

    Returns:
        A state named `Rejected` of type FAILED when the gate rejected the images or the person
        refused the release, so that alerts fire; `WrongInput`, also FAILED, when a retry cannot
        help.
    """
    hide_tracebacks()
    refusal = ""
    try:
        preflight.check_clone()
        run_all_changed(workers)
        if (open_decision := approval.find_open_decision()) and approval_pause.can_be_answered():
            refusal = release_as_decided(open_decision, approval_hours, workers)
    except InputError as error:
        return Failed(name="WrongInput", message=str(error))
    except StageFailed as error:
        name = "WrongInput" if error.code == WRONG_INPUT else "Failed"
        return Failed(name=name, message=str(error))
    verdict = summary.read_summary()
    prefect_artifacts.publish_artifacts(verdict)
    if verdict.rejected or refusal:
        return Failed(name="Rejected", message=refusal or verdict.line)
    return Completed(message=closing_line(verdict))


def run_all_changed(workers: int) -> None:
    """Run what changed, as the only flow of this clone."""
    logger = get_run_logger()
    with exclusive_run(logger.info):
        plan = read_plan(logger.info)
        logger.info("%d of %d stages to run", len(plan.changed), len(plan.stages))
        run_changed_stages(plan, workers or os.cpu_count() or 1)
        sort_lock(logger.info)


def release_as_decided(open_decision: approval.OpenDecision, hours: float, workers: int) -> str:
    """Pause for a person's decision, write it down, and release or refuse accordingly.

    Other runs may use the clone meanwhile.

    Returns:
        The reason of a refusal; "" where the release was approved, or nobody decided.

    Raises:
        InputError: when the candidate is no longer the one that the person was asked about.
    """
    verdict = summary.read_summary()
    prefect_artifacts.publish_artifacts(verdict)
    answer = approval_pause.ask_person(open_decision, verdict, hours)
    if answer is None:
        return ""
    decision: Literal["approved", "refused"] = (
        "approved" if answer.decision == "approve" else "refused"
    )
    said = approval.decide(
        decision, reviewer=answer.approver, note=answer.note, seen=open_decision.digest
    )
    get_run_logger().info(said)
    run_all_changed(workers)
    reason = f": {answer.note}" if answer.note else ""
    return "" if decision == "approved" else f"Refused by {answer.approver}{reason}"


def closing_line(verdict: summary.Summary) -> str:
    """Return the verdict, and what to do where the release waits for a person."""
    waiting = approval.find_open_decision()
    return f"{verdict.line} {waiting.line}" if waiting else verdict.line


def run_pipeline(workers: int = 0) -> int:
    """Check the clone, run what changed and print the verdict.

    Returns:
        The exit code: 0 accepted or nothing to do, 2 wrong input, 3 rejected, 1 anything else.
    """
    end_on_sigterm()
    try:
        preflight.check_clone()
        wait_for_other_run(print_to_stderr)
        plan = read_plan()
        if not plan.changed:
            verdict = summary.read_summary()
            print(
                f"Nothing to do: all {len(plan.stages)} stages are up to date."
                f" {closing_line(verdict)}"
            )
            return REJECTED if verdict.rejected else DONE
        ensure_server()
        state = pipeline(workers, return_state=True)
    except InputError as error:
        return print_error(str(error), WRONG_INPUT)
    except httpx.TransportError as error:
        return print_error(
            f"the Prefect server does not answer any more ({error}); stages that ended are kept,"
            " start it and run again",
            OTHER,
        )
    except KeyboardInterrupt:
        return print_error("ended before it was done; the next run goes on from here", OTHER)
    if state.is_completed():
        print(state.message)
        return DONE
    codes = {"Rejected": REJECTED, "WrongInput": WRONG_INPUT}
    return print_error(state.message or "failed", codes.get(str(state.name), OTHER))


def command(workers: Workers = 0) -> None:
    """Run what changed in the pipeline, as a Prefect flow."""
    raise typer.Exit(run_pipeline(workers))


if __name__ == "__main__":
    run_command(command)
