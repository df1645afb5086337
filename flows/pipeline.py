"""Run the DAG of `dvc.yaml` as a Prefect flow.

DVC says what changed; each changed stage becomes a Prefect task that runs the stage through DVC.
DVC alone caches, so that `dvc repro` has nothing to do after a flow, nor a flow after `dvc repro`.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import httpx
import typer
from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from flows import approval, approval_pause, dvc_locks, prefect_artifacts, preflight, summary
from flows.dvc_graph import Plan, Stage, print_to_stderr, read_plan, sort_lock
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
from flows.gpu_slots import ensure_gpu_limit, hold_gpu_slot, prefect_run_name
from flows.prefect_gpu_slots import GPU
from flows.prefect_server import ensure_server
from flows.run_failure import ENDED, StageFailed, hide_tracebacks
from flows.waiting import FileLock, is_locked, local_time, wait_until, waiting_message
from tasks.stage.errors import WRONG_INPUT, InputError

RUN_LOCK = Path(".locks/run")


@task(cache_policy=NO_CACHE, persist_result=False)
def run_dvc_stage(stage: Stage, runner: DvcRunner) -> None:
    """Run one stage through DVC; a stage with the tag `gpu` waits for a slot of that limit."""
    logger = get_run_logger()
    slot: AbstractContextManager[None] = nullcontext()
    if GPU in stage.options.tags:
        slot = hold_gpu_slot(logger.info, runner.ended)
    with slot:
        runner.repro(stage.address, logger.info)


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


@contextmanager
def exclusive_run(say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other flow runs in this clone, then hold the clone.

    What a killed flow left in DVC's list of paths in use is removed.
    """
    lock = FileLock(RUN_LOCK)

    def attempt() -> str | None:
        if lock.acquire(f"run {prefect_run_name()} since {local_time()}"):
            return None
        return waiting_message("this clone", [lock.read_holder()])

    wait_until(attempt, say, threading.Event())
    try:
        dvc_locks.drop_dead_entries(Path())
        yield
    finally:
        lock.release()


def wait_for_other_run(say: Callable[[str], None]) -> None:
    """Wait until no flow runs in this clone, without holding the clone."""

    def attempt() -> str | None:
        if is_locked(RUN_LOCK):
            return waiting_message("this clone", [FileLock(RUN_LOCK).read_holder()])
        return None

    wait_until(attempt, say, threading.Event())


def run_changed_stages(plan: Plan, workers: int) -> None:
    """Run the changed stages, each as soon as its inputs are ready.

    After a failure no further stage is started; stages that run may end.

    Raises:
        StageFailed: for the first failure.
    """
    changed = {stage.address: stage for stage in plan.changed}
    if any(GPU in stage.options.tags for stage in plan.changed):
        ensure_gpu_limit()
    sorter = TopologicalSorter({a: stage.needs & changed.keys() for a, stage in changed.items()})
    sorter.prepare()
    ready: list[str] = []
    futures: dict[str, PrefectFuture[None]] = {}
    ended: queue.Queue[str] = queue.Queue()
    failures: list[str] = []
    running = 0
    runner = DvcRunner()
    try:
        while sorter.is_active():
            ready += sorter.get_ready()
            while ready and running < workers and not failures:
                stage = changed[ready.pop(0)]
                parents = [futures[address] for address in stage.needs & changed.keys()]
                future = stage_task(stage).submit(
                    stage, runner, wait_for=parents, return_state=False
                )
                future.add_done_callback(completion_callback(ended, stage.address))
                futures[stage.address] = future
                running += 1
            if running == 0:
                break
            address = ended.get()
            running -= 1
            futures[address].wait()
            if futures[address].state.is_completed():
                sorter.done(address)
            else:
                failures.append(address)
    finally:
        runner.end()
    for address in failures:
        futures[address].result()


def completion_callback(
    ended: "queue.Queue[str]", address: str
) -> Callable[[PrefectFuture[Any]], None]:
    """Return a callback that puts a stage's address on the queue when the stage ends."""
    return lambda _: ended.put(address)


def stage_task(stage: Stage) -> Task[[Stage, DvcRunner], None]:
    """Return the Prefect task of a stage, with the options of its `meta: {prefect: ...}`."""
    options = stage.options
    return run_dvc_stage.with_options(
        name=stage.address.partition("@")[0],
        task_run_name=stage.address,
        tags=options.tags,
        retries=options.retries,
        retry_delay_seconds=options.retry_delay_seconds,
        retry_condition_fn=should_retry,
    )


def should_retry(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Check whether a retry may help: not after wrong input, nor when the run was ended."""
    failure = state.result(raise_on_failure=False)
    return not (isinstance(failure, StageFailed) and failure.code in (WRONG_INPUT, ENDED))


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
