"""Run the DAG of `dvc.yaml` as a Prefect flow.

DVC says what changed; each changed stage becomes a Prefect task that runs the stage through DVC.
DVC alone caches, so that `dvc repro` has nothing to do after a flow, nor a flow after `dvc repro`.
"""

import os
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows import approval, approval_pause, prefect_artifacts, preflight, summary
from flows.after_run import check_after_run, keep_results, read_head
from flows.cancelled_runs import CANCELLED_MESSAGE, RunCancelled, ended_when_cancelled
from flows.clone_lock import exclusive_run
from flows.dvc_graph import Plan, read_plan, sort_lock
from flows.dvc_runner import DvcRunner
from flows.entry_point import (
    Workers,
    run_command,
)
from flows.killed_runs import noted_run
from flows.overrides import collect_overrides, overridden
from flows.remote_runner import RemoteRunner
from flows.run_failure import StageFailed, hide_tracebacks
from flows.run_names import name_flow_run
from flows.run_request import RunRequest
from flows.secret_values import hide_secrets
from flows.shell_run import run_pipeline
from flows.stage_runs import FAILED_STATES, report_unchanged, run_changed_stages
from tasks.stage.errors import InputError


@flow(name="auglift", flow_run_name=name_flow_run, persist_result=False)
def pipeline(
    workers: Annotated[int, Field(ge=0)] = 0,
    approval_hours: Annotated[float, Field(gt=0)] = 24,
    *,
    stages: list[str] | None = None,
    force: bool = False,
    presets: list[str] | None = None,
    params: dict[str, Any] | None = None,
    elsewhere: str = "",
) -> State[Any]:
    """Run what changed, independent stages in parallel, and end in the state the gate decides.

    Where only a person's approval is missing, a deployment's run pauses for it.

    Args:
        workers: How many stages run at once; 0 for as many as there are processors.
        approval_hours: How long to wait for an approval; then the run ends without it.
        stages: Stages to bring up to date, such as `gate` or `gate@0`; none stands for all.
        force: Run these stages even where nothing changed.
        presets: Names of files in `presets/` whose values this run takes.
        params: Values that this run takes instead of those in `params.yaml`, by dotted key, such
            as `{"train_gan.steps": 4000}`. They are checked before anything runs, and win over
            presets. The file stays as it is.
        elsewhere: A deployment whose workers, in clones of their own, run the stages, such as
            `auglift-stage/stage`; empty for this machine alone.

    Returns:
        A state named `Rejected` of type FAILED when the gate rejected the images or the person
        refused the release, so that alerts fire; `WrongInput`, also FAILED, when a retry cannot
        help; `NotKept` where the results of a good run could not be committed or pushed;
        `Cancelled` where somebody cancelled on the server what was started from a shell.
    """
    hide_tracebacks()
    try:
        overrides = collect_overrides(presets or (), values=params)
        request = RunRequest(workers, tuple(stages or ()), force, overrides, elsewhere)
        with overridden(overrides):
            preflight.check_clone()
            with noted_run(), ended_when_cancelled():
                return run_and_judge(request, approval_hours)
    except InputError as error:
        return Failed(name="WrongInput", message=hide_secrets(str(error)))
    except StageFailed as error:
        name = FAILED_STATES.get(error.code, "Failed")
        return Failed(name=name, message=hide_secrets(str(error)))
    except RunCancelled:
        return Cancelled(message=CANCELLED_MESSAGE)


def run_and_judge(request: RunRequest, approval_hours: float) -> State[Any]:
    """Run what changed, publish what came out; return the run's final state."""
    check_after_run(request.overrides)
    prefect_artifacts.publish_overrides(request.overrides)
    say = get_run_logger().info
    with exclusive_run(say):
        head = read_head()
        plan = run_changed(request)
        open_decision = None
        if not request.stages or summary.judges(plan.addresses):
            open_decision = approval.find_open_decision()
        if open_decision is None or not approval_pause.can_be_answered():
            return judge_and_keep(request, plan, head)
    refusal = release_as_decided(open_decision, approval_hours, request)
    with exclusive_run(say):
        return judge_and_keep(request, plan, read_head(), refusal)


def judge_and_keep(request: RunRequest, plan: Plan, head: str, refusal: str = "") -> State[Any]:
    """Publish the verdict and keep the results, while no other flow works in this clone.

    Args:
        request: What the run was asked to do.
        plan: Its stages.
        head: The commit that was checked out when they began.
        refusal: Why a person refused the release.
    """
    if request.stages and not summary.judges(plan.addresses):
        return Completed(message=f"{', '.join(request.stages)}: up to date")
    verdict = summary.read_summary(plan.addresses if request.stages else None)
    prefect_artifacts.publish_artifacts(verdict)
    if verdict.rejected or refusal:
        return Failed(name="Rejected", message=refusal or verdict.line)
    if not request.stages:
        try:
            keep_results(request, head, get_run_logger().info)
        except InputError as error:
            return Failed(name="NotKept", message=str(error))
    return Completed(message=approval.closing_line(verdict))


def run_all_changed(request: RunRequest) -> Plan:
    """Run what changed, as the only flow of this clone."""
    with exclusive_run(get_run_logger().info):
        return run_changed(request)


def run_changed(request: RunRequest) -> Plan:
    """Run what changed; the caller holds the clone."""
    logger = get_run_logger()
    plan = read_plan(logger.info, request.stages, force=request.force)
    logger.info("%d of %d stages to run", len(plan.changed), len(plan.stages))
    report_unchanged(plan)
    runner = make_runner(request, plan)
    names = run_changed_stages(plan, request.workers or os.cpu_count() or 1, runner)
    if plan.changed:
        sort_lock(logger.info)
        counts = Counter(names.values())
        logger.info(", ".join(f"{number} {name}" for name, number in counts.items()))
    return plan


def make_runner(request: RunRequest, plan: Plan) -> DvcRunner:
    """Return what runs the stages: this machine, or the workers of a deployment.

    Raises:
        InputError: other machines cannot run them, with the reason.
    """
    if not request.elsewhere or not plan.changed:
        return DvcRunner()
    return RemoteRunner(request.elsewhere, plan, request.overrides)


def release_as_decided(
    open_decision: approval.OpenDecision, hours: float, request: RunRequest
) -> str:
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
    run_all_changed(replace(request, force=False))
    reason = f": {answer.note}" if answer.note else ""
    return "" if decision == "approved" else f"Refused by {answer.approver}{reason}"


def command(workers: Workers = 0) -> None:
    """Run what changed in the pipeline, as a Prefect flow."""
    raise typer.Exit(run_pipeline(RunRequest(workers), load_flow=lambda: pipeline))


if __name__ == "__main__":
    run_command(command)
