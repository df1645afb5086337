"""Search keys of `params.yaml` for a better generator: parallel trials that can be resumed.

Optuna proposes values and DVC trains: each trial is a Prefect task that runs `train_gan` in a
clone of its own, and becomes a DVC experiment. The next start resumes unfinished trials from the
trainer's checkpoints.
"""

import os
import queue
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Cancelled

from flows import preflight, tuning_results
from flows.cancelled_runs import CANCELLED_MESSAGE, RunCancelled, ended_when_cancelled
from flows.clone_lock import exclusive_run
from flows.dvc_graph import Plan, read_plan, sort_lock
from flows.dvc_runner import DvcRunner
from flows.entry_point import DONE, OTHER, end_on_sigterm, print_error
from flows.gpu_slots import ensure_gpu_limit, hold_gpu_slot
from flows.killed_runs import noted_run
from flows.prefect_server import ensure_server
from flows.run_failure import StageFailed, hide_tracebacks
from flows.run_names import name_search_run
from flows.search_space import invalid_reason
from flows.stage_runs import completion_callback, run_changed_stages
from flows.trial_clones import TrialClones, check_commit, values_hash, write_params
from flows.tuning_study import Search, enqueue_first, open_study, requeue_unfinished, trial_param
from flows.tuning_trial import TrialJob, TrialOutcome, train_trial
from tasks.stage.errors import WRONG_INPUT, InputError
from tasks.stage.params_file import PARAMS
from tasks.stage.stage_io import file_lock

MAX_FAILURES = 3  # trials in a row that may fail for another reason than their values


@task(cache_policy=NO_CACHE, persist_result=False)
def run_trial(job: TrialJob) -> TrialOutcome:
    """Train with one trial's values; where there is a GPU, wait for a slot of it."""
    logger = get_run_logger()
    slot: AbstractContextManager[None] = nullcontext()
    if has_gpu():
        slot = hold_gpu_slot(logger.info, job.runner.ended)
    with slot:
        return train_trial(job, logger.info)


@flow(
    name="auglift-tune",
    flow_run_name=name_search_run,
    persist_result=False,
    validate_parameters=False,
)
def tune(search: Search, study: optuna.Study) -> State[Any] | None:
    """Run a search from the shell; `flows.tune_deployment` runs one of a deployment."""
    try:
        with noted_run(), ended_when_cancelled():
            run_trials(search, study)
    except RunCancelled:
        return Cancelled(message=CANCELLED_MESSAGE)
    return None


def run_trials(search: Search, study: optuna.Study) -> None:
    """Bring the trials' inputs up to date, then run trials until enough have ended."""
    hide_tracebacks()
    logger = get_run_logger()
    with exclusive_run(logger.info):
        plan = read_plan(logger.info)
        stages = {stage.address: stage for stage in plan.stages}
        if search.address not in stages:
            raise InputError(f"there is no stage {search.address}; --fold is one of slices.folds")
        needed = Plan(
            tuple(s for s in plan.stages if s.address in stage_ancestors(plan, search.address))
        )
        run_changed_stages(needed, search.workers)
        if needed.changed:
            sort_lock(logger.info)
    clones = TrialClones(search.folder, search.address)
    if clones.create_base(stages[search.address].needs, search.fixed):
        logger.info(
            "going on with the code, the params and the slices that %s began with", search.name
        )
    if has_gpu():
        ensure_gpu_limit(search.workers)
    requeue_unfinished(study)
    enqueue_first(search, study)
    SearchLoop(search, study, clones).run()


class SearchLoop:
    """The loop of a search: starts trials and records how they end."""

    def __init__(self, search: Search, study: optuna.Study, clones: TrialClones) -> None:
        self.search, self.study, self.clones = search, study, clones
        self.running: dict[str, tuple[optuna.Trial, DvcRunner, PrefectFuture[TrialOutcome]]] = {}
        self.ended: queue.Queue[str] = queue.Queue()
        self.until = time.monotonic() + 60 * search.minutes if search.minutes else None
        self.failures = 0

    def run(self) -> None:
        """Run trials, several at once, until enough have ended.

        Raises:
            StageFailed: when `MAX_FAILURES` trials in a row fail.
        """
        try:
            while True:
                while len(self.running) < self.search.workers and self.wants_more():
                    self.start_trial()
                if not self.running:
                    return
                self.finish_trial(self.ended.get())
        finally:
            for _, runner, _ in self.running.values():
                runner.end()

    def wants_more(self) -> bool:
        """Check whether another trial is to start."""
        if self.until is not None and time.monotonic() > self.until:
            return False
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        if self.search.sampler == "grid" and TrialState.WAITING not in states:
            return False
        return (
            len(tuning_results.ended_trials(self.study)) + len(self.running)
            < self.search.max_trials
        )

    def start_trial(self) -> None:
        """Start the next trial; one with invalid or already tried values ends at once."""
        trial = self.study.ask(self.search.space)
        values = tuning_results.trial_values(trial)
        key = values_hash(values)
        while key in self.running:
            self.finish_trial(self.ended.get())
        if reason := invalid_reason(self.search.fixed | values):
            self.record_outcome(trial, TrialOutcome(TrialState.PRUNED, reason=reason))
            return
        for known in self.study.get_trials(deepcopy=False):
            if known.state == TrialState.COMPLETE and tuning_results.trial_values(known) == values:
                attributes = known.user_attrs
                same = TrialOutcome(
                    known.state,
                    known.value,
                    f"as trial {known.number}",
                    attributes["experiment"],
                    attributes["collapsed"],
                )
                self.record_outcome(trial, same)
                return
        runner = DvcRunner(self.clones.root / "trials" / key)
        self.clones.open_clone(values)
        job = TrialJob(self.clones, self.search.fold, values, trial, runner, self.search.prunes)
        named = run_trial.with_options(name="trial", task_run_name=f"trial-{trial.number}-{key}")
        future = named.submit(job, return_state=False)
        future.add_done_callback(completion_callback(self.ended, key))
        self.running[key] = (trial, runner, future)

    def finish_trial(self, key: str) -> None:
        """Record how a trial ended.

        Raises:
            StageFailed: when `MAX_FAILURES` trials in a row failed.
        """
        trial, _, future = self.running.pop(key)
        future.wait()
        outcome = future.result()
        self.record_outcome(trial, outcome)
        self.failures = self.failures + 1 if outcome.state == TrialState.FAIL else 0
        if self.failures == MAX_FAILURES:
            raise StageFailed(f"{MAX_FAILURES} trials in a row failed: {outcome.reason}", 1)

    def record_outcome(self, trial: optuna.Trial, outcome: TrialOutcome) -> None:
        """Write a trial's outcome to the study and to the log."""
        trial.set_user_attr("reason", outcome.reason)
        trial.set_user_attr("experiment", outcome.experiment)
        trial.set_user_attr("collapsed", outcome.collapsed)
        if outcome.state == TrialState.COMPLETE:
            trial.set_constraint("collapsed", float(outcome.collapsed))  # at most 0 is feasible
        self.study.tell(trial, outcome.value, state=outcome.state)
        shown = tuning_results.format_cell(outcome.value)
        get_run_logger().info(
            "trial %d: %s %s %s",
            trial.number,
            tuning_results.STATES[outcome.state],
            shown,
            outcome.reason,
        )


def stage_ancestors(plan: Plan, address: str) -> set[str]:
    """Return the stages that a stage depends on, directly or not."""
    needs = {stage.address: stage.needs for stage in plan.stages}
    ancestors: set[str] = set()
    waiting = list(needs[address])
    while waiting:
        if (ancestor := waiting.pop()) not in ancestors:
            ancestors.add(ancestor)
            waiting += needs[ancestor]
    return ancestors


def has_gpu() -> bool:
    """Check whether this machine has an NVIDIA GPU, without importing torch."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


def run_search(search: Search, *, apply: bool) -> int:
    """Run a search and write its results; return the exit code.

    Args:
        search: Its settings.
        apply: Whether to write the best values to `params.yaml`.
    """
    try:
        with open_search(search) as (opened, study):
            end_on_sigterm()
            ensure_server()
            state: State[Any] = tune(opened, study, return_state=True)
            tuning_results.write_results(study, opened.folder)
    except InputError as error:
        return print_error(str(error), WRONG_INPUT)
    except KeyboardInterrupt:
        return print_error("ended before it was done; the next start takes it up from here", OTHER)
    if not state.is_completed():
        failure = state.result(raise_on_failure=False)
        wrong = isinstance(failure, InputError)
        return print_error(str(failure or state.message), WRONG_INPUT if wrong else OTHER)
    if apply:
        apply_best(study, print)
    return DONE


@contextmanager
def open_search(search: Search) -> Iterator[tuple[Search, optuna.Study]]:
    """Check the clone and the settings, and hold the search; yield it with its study.

    Raises:
        InputError: one line that says what is wrong, or that another process has the search.
    """
    preflight.check_clone()
    check_commit()
    if reason := invalid_reason(search.fixed):
        raise InputError(reason)
    if not search.workers:
        capacity = 1 if has_gpu() else (os.cpu_count() or 1) // trial_param(search, "threads")
        search = replace(search, workers=max(1, capacity))
    taken = f"{search.folder} is being searched by another process; wait for it, or take --name"
    with file_lock(search.folder / "lock", taken):
        yield search, open_study(search)


def apply_best(study: optuna.Study, say: Callable[[str], None]) -> None:
    """Write the best trial's values to `params.yaml`, if a trial completed."""
    if (chosen := tuning_results.best_trial(study)) is not None:
        with exclusive_run(say):  # a run that is under way goes on with its own values
            write_params(PARAMS, tuning_results.trial_values(chosen))
        say("params.yaml has these values now")
