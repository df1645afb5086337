"""Watch an inbox: complete drops become batches, and the pipeline starts.

`auglift intake` does it on the command line, the deployment `intake` on a schedule. On the command
line, an inbox without a complete drop needs no Prefect server.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows.cancelled_runs import CANCELLED_MESSAGE, RunCancelled, ended_when_cancelled
from flows.dvc_runner import DvcRunner
from flows.entry_point import DONE, OTHER, REJECTED, end_on_sigterm, print_error
from flows.git_commit import git
from flows.inbox_drops import Drop, os_error
from flows.inbox_intake import (
    DropTokens,
    Outcome,
    OutcomeKind,
    batches_to_start,
    check_clone_for_intake,
    is_work_left,
    list_complete,
    note_started,
    take_all,
    take_drop,
)
from flows.killed_runs import noted_run
from flows.prefect_server import ensure_server
from flows.run_failure import StageFailed, hide_tracebacks
from tasks.stage.errors import WRONG_INPUT, InputError

INBOX = "data/inbox"
QUIET_S = 60.0
PIPELINE = "auglift/pipeline"
Start = Literal["deployment", "here", "no"]
QUARANTINED = "Quarantined"


@flow(name="intake", flow_run_name="intake of {inbox}", persist_result=False)
def intake(
    inbox: str = INBOX,
    quiet_seconds: Annotated[float, Field(ge=0)] = QUIET_S,
    start: Start = "deployment",
    workers: Annotated[int, Field(ge=0)] = 0,
) -> State[Any]:
    """Make every complete drop of the inbox a batch, and start the pipeline where there is one.

    Args:
        inbox: The folder that is watched.
        quiet_seconds: A drop is complete when nothing in it changed for that long.
        start: Where the pipeline runs: as a run of the deployment `auglift/pipeline`, in this
            process, or not at all.
        workers: How many stages run at once in this process; 0 for as many as processors.

    Returns:
        A state named `Quarantined` of type FAILED when a drop was bad, so that alerts fire, after
        the pipeline was started for the good ones; `WrongInput` when the clone itself is at fault.
    """
    hide_tracebacks()
    logger = get_run_logger()
    try:
        check_clone_for_intake()
        with noted_run(), ended_when_cancelled():
            outcomes = take_all(Path(inbox), quiet_seconds, logger.info, take=named_task)
            publish_outcomes(outcomes)
            started, state = start_pipeline(start, workers, logger.info)
    except InputError as error:
        return Failed(name="WrongInput", message=str(error))
    except StageFailed as error:
        return Failed(message=str(error))
    except OSError as error:
        return Failed(message=f"{os_error(error)}; the next run goes on from here")
    except RunCancelled:
        return Cancelled(message=CANCELLED_MESSAGE)
    message = " ".join([f"{summarise(outcomes)}.", started]).strip()
    return final_state(message, {outcome.kind for outcome in outcomes}, state)


def final_state(message: str, kinds: set[OutcomeKind], pipeline: State[Any] | None) -> State[Any]:
    """Return the state that the worst of all outcomes calls for.

    Args:
        message: What became of the drops.
        kinds: The kinds of their outcomes.
        pipeline: The state of the pipeline, where it ran in this process.
    """
    if pipeline is not None and pipeline.is_cancelled():
        return Cancelled(message=message)
    if "failed" in kinds:
        return Failed(message=message)
    if pipeline is not None and not pipeline.is_completed():
        return Failed(name=pipeline.name, message=message)
    if "quarantined" in kinds:
        return Failed(name=QUARANTINED, message=message)
    return Completed(message=message)


@task(name="drop", cache_policy=NO_CACHE, persist_result=False)
def take_drop_as_task(
    drop: Drop, token: str, runner: DvcRunner, say: Callable[[str], None]
) -> Outcome:
    """Take one drop; a task of its own, so that the run's page shows how long each took."""
    return take_drop(drop, token, runner, say)


def named_task(drop: Drop, token: str, runner: DvcRunner, say: Callable[[str], None]) -> Outcome:
    """Take one drop as a task that bears its token."""
    named = take_drop_as_task.with_options(task_run_name=f"drop {token}")
    return named(drop, token, runner, say)


def start_pipeline(
    start: Start, workers: int, say: Callable[[str], None]
) -> tuple[str, State[Any] | None]:
    """Start the pipeline where batches wait for it.

    A run that was killed before it could start the pipeline, or whose pipeline failed in this
    process, leaves that to the next one.

    Returns:
        What was done, in words, and the pipeline's state where it ran in this process.

    Raises:
        InputError: there is no deployment of the pipeline.
    """
    batches = batches_to_start()
    if not batches:
        return "", None
    message, state = "", None
    if start == "deployment":
        message = f"Started the run {run_deployed_pipeline(batches)}."
    elif start == "here":
        from flows.pipeline import pipeline

        say(f"starting the pipeline for {', '.join(batches)}")
        state = pipeline(workers, return_state=True)
        message = f"Pipeline: {state.message or state.name}"
    # A gate's rejection is a result; any other failure is not, and the next intake tries again.
    if state is None or state.is_completed() or state.name == "Rejected":
        note_started(batches)
    return message, state


def run_deployed_pipeline(batches: list[str]) -> str:
    """Start a run of the pipeline's deployment; return its name.

    The same batches at the same commit start it once, also after a kill in between.

    Raises:
        InputError: there is no such deployment.
    """
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        key = f"intake {git('rev-parse', 'HEAD').strip()} {' '.join(batches)}"
        run = run_deployment(PIPELINE, timeout=0, as_subflow=False, idempotency_key=key)
    except ObjectNotFound:
        raise InputError(
            f"the Prefect server has no deployment {PIPELINE}; make it (`prefect deploy --all` in"
            " the clone), or let the pipeline run in this process (--start here)"
        ) from None
    return str(getattr(run, "name", run))


def publish_outcomes(outcomes: list[Outcome]) -> None:
    """Publish what became of each drop as an artifact of the run."""
    if outcomes:
        create_table_artifact(
            [{"drop": o.token, "outcome": o.kind, "batch or reason": o.detail} for o in outcomes],
            key="intake",
            description="Drops of the inbox; .private/intake.csv has their names",
        )


def summarise(outcomes: list[Outcome]) -> str:
    """Return how many drops became what, in one line."""
    words = {
        "batch": "became batches",
        "duplicate": "were duplicates",
        "quarantined": "were quarantined",
        "waits": "wait",
        "failed": "could not be taken",
    }
    parts = []
    for kind, verb in words.items():
        found = [outcome for outcome in outcomes if outcome.kind == kind]
        if found:
            names = f" ({', '.join(o.detail for o in found)})" if kind == "batch" else ""
            parts.append(f"{len(found)} {verb}{names}")
    return f"Drops: {', '.join(parts) or 'none'}"


def run_intake(
    inbox: str, quiet: float, start: str, workers: int, *, every: float | None = None
) -> int:
    """Look into the inbox once, or every so many seconds until ended; return the exit code.

    Raises:
        InputError: `start` is none of the three words.
    """
    if start not in get_args(Start):
        raise InputError(f"--start is {start!r}; allowed: {', '.join(get_args(Start))}")
    end_on_sigterm()
    try:
        while True:
            try:
                code = run_pass(Path(inbox), quiet, cast(Start, start), workers)
            except OSError as error:
                code = print_error(f"{os_error(error)}; the next look goes on from here", OTHER)
            except httpx.HTTPError as error:
                code = print_error(
                    f"the Prefect server did not answer ({type(error).__name__}); the next look"
                    " goes on from here",
                    OTHER,
                )
            if every is None:
                return code
            time.sleep(every)
    except KeyboardInterrupt:
        return print_error("ended; what was on its way goes on with the next run", OTHER)


def run_pass(inbox: Path, quiet: float, start: Start, workers: int) -> int:
    """Look into the inbox once; return the exit code.

    0: done; 2: a drop was quarantined, or the clone is wrong; 3: the pipeline ran here and ended in
    a rejection; 1: anything else.
    """
    try:
        check_clone_for_intake()
        complete, waiting = list_complete(inbox, quiet)
        if not complete and not is_work_left():
            tokens = DropTokens()
            for drop in waiting:
                print(Outcome(tokens.token(drop.name), "waits", drop.waits_for).line)
            if not waiting:
                print(f"Nothing to take: {inbox} holds no drop.")
            return DONE
        ensure_server()
        state = intake(str(inbox), quiet, start, workers, return_state=True)
    except InputError as error:
        return print_error(str(error), WRONG_INPUT)
    message = str(state.message or state.name)
    if state.is_completed():
        print(message)
        return DONE
    codes = {"Rejected": REJECTED, "WrongInput": WRONG_INPUT, QUARANTINED: WRONG_INPUT}
    return print_error(message, codes.get(str(state.name), OTHER))
