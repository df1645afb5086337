"""Run the changed stages of a plan as Prefect tasks, each as soon as its inputs are ready."""

import queue
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from graphlib import TopologicalSorter
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture

from flows.dvc_graph import Plan, Stage
from flows.dvc_runner import DvcRunner
from flows.gpu_slots import ensure_gpu_limit, hold_gpu_slot
from flows.prefect_gpu_slots import GPU
from flows.run_failure import ENDED, StageFailed
from tasks.stage.errors import WRONG_INPUT


@task(cache_policy=NO_CACHE, persist_result=False)
def run_dvc_stage(stage: Stage, runner: DvcRunner) -> None:
    """Run one stage through DVC; a stage with the tag `gpu` waits for a slot of that limit."""
    logger = get_run_logger()
    slot: AbstractContextManager[None] = nullcontext()
    if GPU in stage.options.tags:
        slot = hold_gpu_slot(logger.info, runner.ended)
    with slot:
        runner.repro(stage.address, logger.info)


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
