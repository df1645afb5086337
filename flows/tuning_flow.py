"""Search keys of `params.yaml` for a better generator: trials side by side, resumable.

Optuna proposes, DVC trains: each trial is a Prefect task that runs `train_gan` in a clone of its
own, and ends as a DVC experiment. What was not finished is taken up again by the next start, from
the trainer's checkpoint.
"""

import os
import queue
import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from flows import preflight, tuning_results
from flows.dvc_graph import Plan, read_plan, sort_lock
from flows.dvc_runner import DvcRunner
from flows.entry_point import DONE, OTHER, end_on_sigterm, print_error
from flows.gpu_slots import ensure_gpu_limit, gpu_slot
from flows.pipeline import completion_callback, only_run, run_changed
from flows.prefect_server import ensure_server
from flows.run_failure import StageFailed, hide_tracebacks
from flows.search_space import refusal
from flows.trial_clones import TrialClones, change_params, check_commit, key_of
from flows.tuning_study import Search, open_study, planned, propose_first, requeue_unfinished
from flows.tuning_trial import Job, Outcome, train
from tasks import params
from tasks.stage.errors import WRONG_INPUT, InputError
from tasks.stage.stage_io import file_lock

TOLERATED = 3  # trials in a row that fail for another reason than their values


@task(cache_policy=NO_CACHE, persist_result=False)
def run_trial(job: Job) -> Outcome:
    """Train with one trial's values; on a GPU, when one is free."""
    logger = get_run_logger()
    slot: AbstractContextManager[None] = nullcontext()
    if has_gpu():
        slot = gpu_slot(logger.info, job.runner.ended)
    with slot:
        return train(job, logger.info)


@flow(name="auglift-tune", persist_result=False, validate_parameters=False)
def tune(search: Search, study: optuna.Study) -> None:
    """Bring the trials' inputs up to date, then propose and train until enough trials ended."""
    hide_tracebacks()
    logger = get_run_logger()
    with only_run(logger.info):
        plan = read_plan(logger.info)
        stages = {stage.address: stage for stage in plan.stages}
        if search.address not in stages:
            raise InputError(f"there is no stage {search.address}; --fold is one of slices.folds")
        needed = Plan(tuple(s for s in plan.stages if s.address in ancestors(plan, search.address)))
        run_changed(needed, search.workers)
        if needed.changed:
            sort_lock(logger.info)
    spaces = TrialClones(search.folder, search.address)
    if spaces.prepare(stages[search.address].needs, search.fixed):
        logger.info(
            "going on with the code, the params and the slices that %s began with", search.name
        )
    if has_gpu():
        ensure_gpu_limit(search.workers)
    requeue_unfinished(study)
    propose_first(search, study)
    SearchLoop(search, study, spaces).run()


class SearchLoop:
    """The trials that run, and when to start another."""

    def __init__(self, search: Search, study: optuna.Study, spaces: TrialClones) -> None:
        self.search, self.study, self.spaces = search, study, spaces
        self.running: dict[str, tuple[optuna.Trial, DvcRunner, PrefectFuture[Outcome]]] = {}
        self.ended: queue.Queue[str] = queue.Queue()
        self.until = time.monotonic() + 60 * search.minutes if search.minutes else None
        self.failures = 0

    def run(self) -> None:
        """Keep the workers busy until enough trials ended.

        Raises:
            StageFailed: when one trial after another fails.
        """
        try:
            while True:
                while len(self.running) < self.search.workers and self.wants_more():
                    self.start()
                if not self.running:
                    return
                self.finish(self.ended.get())
        finally:
            for _, runner, _ in self.running.values():
                runner.end()

    def wants_more(self) -> bool:
        """Whether another trial is to begin."""
        if self.until is not None and time.monotonic() > self.until:
            return False
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        if self.search.sampler == "grid" and TrialState.WAITING not in states:
            return False
        return len(tuning_results.ended(self.study)) + len(self.running) < self.search.most

    def start(self) -> None:
        """Begin the next trial; one whose values are known already ends at once."""
        trial = self.study.ask(self.search.space)
        values = tuning_results.values_of(trial)
        key = key_of(values)
        while key in self.running:
            self.finish(self.ended.get())
        if reason := refusal(self.search.fixed | values):
            self.tell(trial, Outcome(TrialState.PRUNED, reason=reason))
            return
        for known in self.study.get_trials(deepcopy=False):
            if known.state == TrialState.COMPLETE and tuning_results.values_of(known) == values:
                said = known.user_attrs
                same = Outcome(
                    known.state,
                    known.value,
                    f"as trial {known.number}",
                    said["experiment"],
                    said["collapsed"],
                )
                self.tell(trial, same)
                return
        runner = DvcRunner(self.spaces.root / "trials" / key)
        self.spaces.open(values)
        job = Job(self.spaces, self.search.fold, values, trial, runner, self.search.prunes)
        named = run_trial.with_options(name="trial", task_run_name=f"trial-{trial.number}-{key}")
        future = named.submit(job, return_state=False)
        future.add_done_callback(completion_callback(self.ended, key))
        self.running[key] = (trial, runner, future)

    def finish(self, key: str) -> None:
        """Note how a trial ended."""
        trial, _, future = self.running.pop(key)
        future.wait()
        outcome = future.result()
        self.tell(trial, outcome)
        self.failures = self.failures + 1 if outcome.state == TrialState.FAIL else 0
        if self.failures == TOLERATED:
            raise StageFailed(f"{TOLERATED} trials in a row failed: {outcome.reason}", 1)

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Pass an outcome on to the study."""
        trial.set_user_attr("reason", outcome.reason)
        trial.set_user_attr("experiment", outcome.experiment)
        trial.set_user_attr("collapsed", outcome.collapsed)
        if outcome.state == TrialState.COMPLETE:
            trial.set_constraint("collapsed", float(outcome.collapsed))  # 0 is well
        self.study.tell(trial, outcome.value, state=outcome.state)
        shown = tuning_results.cell(outcome.value)
        get_run_logger().info(
            "trial %d: %s %s %s",
            trial.number,
            tuning_results.STATES[outcome.state],
            shown,
            outcome.reason,
        )


def ancestors(plan: Plan, address: str) -> set[str]:
    """The stages that a stage needs, and what those need."""
    needs = {stage.address: stage.needs for stage in plan.stages}
    found: set[str] = set()
    waiting = list(needs[address])
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting += needs[one]
    return found


def has_gpu() -> bool:
    """Whether the trainers will find a GPU; a front door asks no torch."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


def run(search: Search, *, apply: bool) -> int:
    """Search, show what was found, write the best values when asked; returns the exit code."""
    try:
        preflight.check_clone()
        check_commit()
        if said := refusal(search.fixed):
            raise InputError(said)
        if not search.workers:
            room = 1 if has_gpu() else (os.cpu_count() or 1) // planned(search, "threads")
            search = replace(search, workers=max(1, room))
        taken = f"{search.folder} is being searched by another process; wait for it, or take --name"
        with file_lock(search.folder / "lock", taken):
            end_on_sigterm()
            study = open_study(search)
            ensure_server()
            state: State[Any] = tune(search, study, return_state=True)
            tuning_results.show(study, search.folder)
    except InputError as error:
        return print_error(str(error), WRONG_INPUT)
    except KeyboardInterrupt:
        return print_error("ended before it was done; the next start takes it up from here", OTHER)
    if not state.is_completed():
        failure = state.result(raise_on_failure=False)
        wrong = isinstance(failure, InputError)
        return print_error(str(failure), WRONG_INPUT if wrong else OTHER)
    if apply and (chosen := tuning_results.best(study)) is not None:
        change_params(params.PARAMS, tuning_results.values_of(chosen))
        print("params.yaml has these values now")
    return DONE
