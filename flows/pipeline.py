"""Run the DAG of `dvc.yaml` as a Prefect flow.

DVC says what changed; each changed stage becomes a Prefect task that runs the stage through DVC.
DVC alone caches, so that `dvc repro` has nothing to do after a flow, nor a flow after `dvc repro`.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import httpx
import typer
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import approval, approval_pause, prefect_artifacts, preflight, summary
from flows.after_run import check_after_run, keep_results
from flows.clone_lock import exclusive_run, wait_for_other_run
from flows.dvc_graph import Plan, print_to_stderr, read_plan, sort_lock
from flows.dvc_runner import DvcRunner
from flows.entry_point import (
    DONE,
    OTHER,
    REJECTED,
    Workers,
    end_on_sigterm,
    print_error,
    run_command,
)
from flows.overrides import Overrides, collect_overrides, overridden
from flows.prefect_server import ensure_server
from flows.remote_runner import RemoteRunner
from flows.run_failure import StageFailed, hide_tracebacks
from flows.run_request import RunRequest, name_flow_run
from flows.secret_values import hide_secrets
from flows.stage_runs import FAILED_STATES, report_unchanged, run_changed_stages
from tasks.stage.errors import WRONG_INPUT, InputError


@flow(name="auglift", flow_run_name=name_flow_run, persist_result=False)
def pipeline(
    workers: int = 0,
    approval_hours: float = 24,
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
        help; `NotKept` where the results of a good run could not be committed or pushed.
    """
    hide_tracebacks()
    try:
        overrides = collect_overrides(presets or (), values=params)
        request = RunRequest(workers, tuple(stages or ()), force, overrides, elsewhere)
        with overridden(overrides):
            return run_and_judge(request, approval_hours)
    except InputError as error:
        return Failed(name="WrongInput", message=hide_secrets(str(error)))
    except StageFailed as error:
        name = FAILED_STATES.get(error.code, "Failed")
        return Failed(name=name, message=hide_secrets(str(error)))


def run_and_judge(request: RunRequest, approval_hours: float) -> State[Any]:
    """Check the clone, run what changed, publish what came out; return the run's final state."""
    preflight.check_clone()
    check_after_run(request.overrides)
    prefect_artifacts.publish_overrides(request.overrides)
    plan = run_all_changed(request)
    if request.stages and not any(stage.address.startswith("gate") for stage in plan.stages):
        return Completed(message=f"{', '.join(request.stages)}: up to date")
    refusal = ""
    if (open_decision := approval.find_open_decision()) and approval_pause.can_be_answered():
        refusal = release_as_decided(open_decision, approval_hours, request)
    verdict = summary.read_summary()
    prefect_artifacts.publish_artifacts(verdict)
    if verdict.rejected or refusal:
        return Failed(name="Rejected", message=refusal or verdict.line)
    if not request.stages:
        try:
            keep_results(request, get_run_logger().info)
        except InputError as error:
            return Failed(name="NotKept", message=str(error))
    return Completed(message=closing_line(verdict))


def run_all_changed(request: RunRequest) -> Plan:
    """Run what changed, as the only flow of this clone."""
    logger = get_run_logger()
    with exclusive_run(logger.info):
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


def closing_line(verdict: summary.Summary) -> str:
    """Return the verdict, and what to do where the release waits for a person."""
    waiting = approval.find_open_decision()
    return f"{verdict.line} {waiting.line}" if waiting else verdict.line


def run_pipeline(
    request: RunRequest, presets: Sequence[str] = (), values: Overrides | None = None
) -> int:
    """Check the clone, run what changed and print the verdict.

    Args:
        request: What to run; its overrides are those of the presets and the values.
        presets: Names of the presets, to show on the run's page.
        values: What the command line sets beside them.

    Returns:
        The exit code: 0 accepted or nothing to do, 2 wrong input, 3 rejected, 1 anything else.
    """
    end_on_sigterm()
    try:
        with overridden(request.overrides):
            preflight.check_clone()
            check_after_run(request.overrides)
            wait_for_other_run(print_to_stderr)
            plan = read_plan(names=request.stages, force=request.force)
            if not plan.changed:
                return report_nothing_to_do(plan, request)
            ensure_server()
            state = pipeline(
                request.workers,
                stages=list(request.stages),
                force=request.force,
                presets=list(presets),
                params=values or {},
                elsewhere=request.elsewhere,
                return_state=True,
            )
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


def report_nothing_to_do(plan: Plan, request: RunRequest) -> int:
    """Say that all is up to date, with the verdict; keep the results where that is asked for."""
    done = f"Nothing to do: all {len(plan.stages)} stages are up to date."
    if request.stages:
        print(done)
        return DONE
    verdict = summary.read_summary()
    print(f"{done} {closing_line(verdict)}")
    if verdict.rejected:
        return REJECTED
    try:
        keep_results(request, print_to_stderr)
    except InputError as error:
        return print_error(str(error), OTHER)
    return DONE


def print_plan(request: RunRequest) -> None:
    """Print which stages a run would run, and why."""
    with overridden(request.overrides):
        preflight.check_clone()
        plan = read_plan(names=request.stages, force=request.force)
    print(f"{len(plan.changed)} of {len(plan.stages)} stages would run")
    width = max((len(stage.address) for stage in plan.changed), default=0)
    for stage in plan.changed:
        before = sorted(stage.needs & {one.address for one in plan.changed})
        why = stage.why or ("forced" if stage.forced else f"if {' or '.join(before)} changes it")
        print(f"  {stage.address:<{width}}  {why}")


def command(workers: Workers = 0) -> None:
    """Run what changed in the pipeline, as a Prefect flow."""
    raise typer.Exit(run_pipeline(RunRequest(workers)))


if __name__ == "__main__":
    run_command(command)
