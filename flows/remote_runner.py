"""Run stages on other machines: each becomes a run of the deployment `stage` that a worker takes.

The coordinator's own clone gets the result through DVC's run cache. A run that was killed leaves
its stages to their workers; the next one asks for the same stages by the same key, and finds them
done or still on their way.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from flows.dvc_graph import Plan, Stage, exchange_run_cache
from flows.dvc_runner import DvcRunner, NotRestored, ReproOptions, StageOutcome
from flows.overrides import Overrides
from flows.prefect_gpu_slots import SILENCE_LIMIT_S, delete_record
from flows.run_failure import ENDED, TIMED_OUT, StageFailed
from flows.stage_exchange import StageRequest, can_travel, check_exchange, make_request
from flows.stage_worker import SIGN_OF_LIFE
from tasks.stage.errors import WRONG_INPUT, InputError

POLL_S = 2.0
REPEAT_AFTER_S = 300.0
START_LIMIT_S = 1800.0  # from when a worker takes a run: its machine may pull an image first
LOST_AFTER_S = 300.0  # a busy server may be late with the signs of life, sent every 15 s
WATCHED_S = 60.0  # four signs: a worker was silent, too, while the server was down
OLD_SIGN_S = 86400.0
SERVER_AT_FAULT = 500  # and above: HTTP codes of a server that is busy or broken
# How long a worker may be silent in a state; in others it has not taken the run, or is done.
SILENCE_LIMITS_S = {
    StateType.PENDING: START_LIMIT_S,
    StateType.RUNNING: LOST_AFTER_S,
    StateType.CANCELLING: LOST_AFTER_S,
}
MAX_LOST = 3  # workers that a stage may lose in one run
T = TypeVar("T")
CODES = {"WrongInput": WRONG_INPUT, "TimedOut": TIMED_OUT, "Ended": ENDED}


class RemoteRunner(DvcRunner):
    """Runs stages by a deployment's workers, and on this machine what cannot travel."""

    def __init__(self, deployment: str, plan: Plan, overrides: Overrides) -> None:
        """Find the deployment, and check that this clone can exchange with others.

        Raises:
            InputError: there is no such deployment; changes are not committed; no DVC remote.
        """
        super().__init__()
        self._commit = check_exchange()
        self._overrides = overrides
        self._outputs = {stage.address: stage.writes for stage in plan.stages}
        self._exchange = threading.Lock()  # one thread at a time uses git, DVC and the run cache
        with get_client(sync_client=True) as client:
            with suppress(httpx.HTTPError):
                remove_old_signs(client)
            try:
                self._deployment = client.read_deployment_by_name(deployment).id
            except (ObjectNotFound, ValueError):
                raise InputError(
                    f"the Prefect server has no deployment {deployment}; make it (`prefect deploy"
                    " --all`), or run without --elsewhere"
                ) from None

    def run_elsewhere(self, stage: Stage, say: Callable[[str], None]) -> StageOutcome | None:
        """Let a worker run a stage, and restore its outputs here.

        Returns:
            What DVC did with the stage there; None where it has to run on this machine: it reads
            what only this machine has, or the remote does not have the worker's result.

        Raises:
            StageFailed: it failed there, or three workers were lost with it.
            InputError: the DVC remote does not answer.
        """
        try:
            with self._exchange:
                if stage.forced:
                    say("runs on this machine: it is forced, and others might restore it")
                    return None
                if not can_travel(stage, self._outputs):
                    say("runs on this machine: it reads what neither git nor a stage provides")
                    return None
                request = make_request(stage, self._outputs, self._commit, self._overrides)
            done = self._run_by_a_worker(request, say)
            with self._exchange:
                exchange_run_cache("pull")
        except InputError as error:
            raise StageFailed(f"{stage.address}: {error}", 1) from None
        try:
            here = self.repro(stage.address, say, ReproOptions(restore=True))
        except NotRestored:
            say("the remote does not have the worker's result; it runs on this machine")
            return None
        return StageOutcome(done) if done in {each.value for each in StageOutcome} else here

    def _run_by_a_worker(self, request: StageRequest, say: Callable[[str], None]) -> str:
        """Let a worker run a stage; return the name of the state in which that ended."""
        lost, number = 0, 0
        while lost < MAX_LOST:
            number += 1
            run = self._submit(request, number)
            if run.state is not None and has_ended_badly(run.state):
                continue  # an attempt of an earlier run
            run = self._wait(run, say)
            assert run.state is not None
            if run.state.is_completed():
                return str(run.state.name)
            if run.state.type not in (StateType.CRASHED, StateType.CANCELLED):
                name, message = str(run.state.name), run.state.message or "failed on its worker"
                raise StageFailed(message, CODES.get(name, 1))
            lost += 1
            say(f"the worker of {run.name} was lost ({run.state.message}); another one is asked")
        raise StageFailed(f"{request.address}: {lost} workers were lost with it", 1)

    def _submit(self, request: StageRequest, number: int) -> FlowRun:
        """Ask for a stage; the same stage with the same inputs is asked for only once."""
        text = f"{number} {request.model_dump_json(exclude={'options', 'coordinator'})}"
        key = hashlib.sha256(text.encode()).hexdigest()
        run: FlowRun = self._ask(
            lambda client: client.create_flow_run_from_deployment(
                self._deployment,
                parameters={"request": request.model_dump(mode="json")},
                name=request.address,
                idempotency_key=f"auglift-{key}",
            )
        )
        return run

    def _ask(self, request: Callable[[Any], T]) -> T:
        """Ask the Prefect server for something that may be asked twice, until it answers.

        Raises:
            StageFailed: it does not answer within two minutes, or the run was ended.
        """
        give_up_at = time.monotonic() + SILENCE_LIMIT_S
        while True:
            try:
                with get_client(sync_client=True) as client:
                    return request(client)
            except httpx.HTTPStatusError as error:
                reason, passes = str(error), error.response.status_code >= SERVER_AT_FAULT
            except httpx.HTTPError as error:
                reason, passes = str(error), True
            if not passes or time.monotonic() > give_up_at:
                raise StageFailed(f"the Prefect server does not answer ({reason})", 1)
            if self.ended.wait(POLL_S):
                raise StageFailed("ended with the run", ENDED)

    def _wait(self, run: FlowRun, say: Callable[[str], None]) -> FlowRun:
        """Wait until a worker's run is final; return it as it then is.

        A worker that gives no sign of life any more is taken for dead, and its run for crashed.

        Raises:
            StageFailed: this run was ended, and the worker's with it; the server is silent.
        """
        run_id, told, told_at = run.id, "", 0.0
        began = time.monotonic()

        def look(client: Any) -> tuple[FlowRun, str]:
            return look_at_run(client, run_id, time.monotonic() - began)

        while not self.ended.wait(POLL_S):
            run, message = self._ask(look)
            if run.state is not None and run.state.is_final():
                self._ask(lambda client: delete_record(client, f"{SIGN_OF_LIFE}{run_id}"))
                return run
            if message != told or time.monotonic() - told_at > REPEAT_AFTER_S:
                told, told_at = message, time.monotonic()
                say(message)
        with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Cancelling(), force=True)
        raise StageFailed(f"{run.name}: ended with the run", ENDED)


def has_ended_badly(state: State[Any]) -> bool:
    """Check whether a run ended, or is being ended, without a result."""
    return state.type == StateType.CANCELLING or (state.is_final() and not state.is_completed())


def remove_old_signs(client: Any) -> None:
    """Remove the signs of life of workers that died while no coordinator waited for them.

    Only those of days ago: a worker is silent, too, while the server is down.

    Args:
        client: A client of the Prefect server.
    """
    body = {"variables": {"name": {"like_": f"{SIGN_OF_LIFE}%"}}}
    answer = client.request("POST", "/variables/filter", json=body)
    if "date" not in answer.headers:
        return
    now = parsedate_to_datetime(answer.headers["date"])
    for sign in answer.json():
        if (now - datetime.fromisoformat(sign["updated"])).total_seconds() > OLD_SIGN_S:
            delete_record(client, sign["name"])


def look_at_run(client: Any, run_id: UUID, watched_s: float) -> tuple[FlowRun, str]:
    """Return a worker's run, taken for crashed where its worker is dead, and where it is, in words.

    Args:
        client: A client of the Prefect server.
        run_id: The run.
        watched_s: For how many seconds this coordinator has waited for it.
    """
    run: FlowRun = client.read_flow_run(run_id)
    limit = SILENCE_LIMITS_S.get(run.state.type) if run.state is not None else None
    if run.state is None or limit is None:
        return run, f"waiting for a worker of the pool {run.work_pool_name}"
    body = {"variables": {"name": {"any_": [f"{SIGN_OF_LIFE}{run.id}"]}}}
    answer = client.request("POST", "/variables/filter", json=body)
    now = parsedate_to_datetime(answer.headers["date"])
    signs = answer.json()
    since = run.state.timestamp or now
    last = datetime.fromisoformat(signs[0]["updated"]) if signs else since
    silent_s = (now - max(last, since)).total_seconds()
    if silent_s > limit and watched_s > WATCHED_S:
        reason = f"no sign of life for {limit:.0f} s"
        client.set_flow_run_state(run.id, Crashed(message=reason), force=True)
    return run, f"runs on {signs[0]['value']}" if signs else "taken by a worker"
