"""Run the changed stages of a plan as Prefect tasks, each as soon as its inputs are ready."""

import queue
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from graphlib import TopologicalSorter
from typing import Any

import httpx
from prefect import Task, get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.states import Completed, exception_to_failed_state
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.core_slots import hold_cores, wanted_cores
from flows.dvc_graph import Plan, Stage
from flows.dvc_runner import DvcRunner, ReproOptions, StageOutcome
from flows.gpu_devices import GPU_IF_ANY, hold_gpu_device, needs_gpu_slot
from flows.gpu_slots import ensure_gpu_limit, hold_gpu_slot
from flows.prefect_gpu_slots import GPU
from flows.run_failure import ENDED, TIMED_OUT, StageFailed
from flows.stage_progress import ProgressArtifact
from tasks.stage.errors import WRONG_INPUT

FAILED_STATES = {WRONG_INPUT: "WrongInput", TIMED_OUT: "TimedOut", ENDED: "Ended"}


@task(cache_policy=NO_CACHE, persist_result=False)
def run_dvc_stage(stage: Stage, runner: DvcRunner) -> State[Any]:
    """Run one stage through DVC, once its GPU and its cores are free.

    Returns:
        A state named `Completed`, `Unchanged` or `Restored` by what DVC did; a failed one is named
        `WrongInput`, `TimedOut`, `Ended` (with the run) or `Failed`.
    """
    say = get_run_logger().info
    progress = ProgressArtifact(stage.address.rpartition(":")[2])

    def take_line(line: str) -> None:
        say(line)
        progress.read(line)

    try:
        outcome = runner.run_elsewhere(stage, take_line)
        if outcome is None:
            outcome = run_here(stage, runner, say, take_line)
    except StageFailed as error:
        return run_coro_as_sync(
            exception_to_failed_state(
                error, name=FAILED_STATES.get(error.code, "Failed"), message=str(error)
            )
        )
    progress.finish()
    return Completed(name=outcome.value, message=describe_outcome(stage, outcome))


def run_here(
    stage: Stage, runner: DvcRunner, say: Callable[[str], None], take_line: Callable[[str], None]
) -> StageOutcome:
    """Run a stage on this machine, once its GPU and its cores are free.

    Args:
        stage: The stage.
        runner: Runs it.
        say: Receives what it waits for.
        take_line: Receives the lines that it prints.

    Raises:
        StageFailed: it failed, or the run was ended.
    """
    with ExitStack() as held:
        environment: dict[str, str] = {}
        if needs_gpu_slot(stage.options.tags):
            held.enter_context(hold_gpu_slot(say, runner.ended))
            environment = held.enter_context(hold_gpu_device(say, runner.ended))
        cores = wanted_cores(stage.options.cores)
        held.enter_context(hold_cores(cores, say, runner.ended))
        options = ReproOptions(stage.forced, stage.options.timeout_seconds, environment)
        return runner.repro(stage.address, take_line, options)


def describe_outcome(stage: Stage, outcome: StageOutcome) -> str:
    """Describe what DVC did with a stage, and why it was looked at."""
    if outcome is StageOutcome.UNCHANGED:
        return "what it reads came out the same"
    if outcome is StageOutcome.RESTORED:
        return "an earlier run with the same inputs was in DVC's cache"
    return stage.why or ("forced" if stage.forced else "a stage before it changed")


def run_changed_stages(plan: Plan, workers: int, runner: DvcRunner | None = None) -> dict[str, str]:
    """Run the changed stages, each as soon as its inputs are ready.

    After a failure no further stage is started; stages that run may end.

    Args:
        plan: The stages.
        workers: How many run at once.
        runner: Runs them; None stands for this machine alone.

    Returns:
        The name of the final state of each stage that was started, by its address.

    Raises:
        StageFailed: for the first failure.
    """
    changed = {stage.address: stage for stage in plan.changed}
    if any(stage.options.tags & {GPU, GPU_IF_ANY} for stage in plan.changed):
        ensure_gpu_limit()
    sorter = TopologicalSorter({a: stage.needs & changed.keys() for a, stage in changed.items()})
    sorter.prepare()
    ready: list[str] = []
    futures: dict[str, PrefectFuture[Any]] = {}
    ended: queue.Queue[str] = queue.Queue()
    names: dict[str, str] = {}
    failures: list[str] = []
    running: list[str] = []
    runner = runner or DvcRunner()
    progress = ProgressArtifact("stages")
    try:
        while sorter.is_active():
            ready += sorter.get_ready()
            while ready and len(running) < workers and not failures:
                stage = changed[ready.pop(0)]
                parents = [futures[address] for address in stage.needs & changed.keys()]
                future = stage_task(stage).submit(
                    stage, runner, wait_for=parents, return_state=False
                )
                future.add_done_callback(completion_callback(ended, stage.address))
                futures[stage.address] = future
                running.append(stage.address)
            if not running:
                break
            show_progress(progress, len(names), len(changed), running)
            address = ended.get()
            running.remove(address)
            futures[address].wait()
            names[address] = str(futures[address].state.name)
            if futures[address].state.is_completed():
                sorter.done(address)
            else:
                failures.append(address)
        show_progress(progress, len(names), len(changed), running)
    finally:
        runner.end()
    for address in failures:
        futures[address].result()
    return names


def show_progress(
    progress: ProgressArtifact, done: int, total: int, running: Iterable[str]
) -> None:
    """Show how many of the changed stages ended, and which run."""
    if total:
        now = ", ".join(running)
        progress.show(100 * done / total, f"{done} of {total}{f'; running: {now}' if now else ''}")


def report_unchanged(plan: Plan) -> None:
    """Enter the stages that are up to date in the run's page, as tasks in the state `Unchanged`."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client, suppress(httpx.HTTPError):
        for stage in plan.unchanged:
            client.create_task_run(
                stage_task(stage),
                flow_run_id=context.flow_run.id,
                dynamic_key=f"unchanged-{stage.address}",
                name=stage.address,
                state=Completed(name=StageOutcome.UNCHANGED.value, message="up to date"),
            )


def completion_callback(
    ended: "queue.Queue[str]", address: str
) -> Callable[[PrefectFuture[Any]], None]:
    """Return a callback that puts a stage's address on the queue when the stage ends."""
    return lambda _: ended.put(address)


def stage_task(stage: Stage) -> Task[[Stage, DvcRunner], State[Any]]:
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
