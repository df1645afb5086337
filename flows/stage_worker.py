"""Run one stage of another clone's run: the flow of the deployment `stage`, which workers take."""

import contextvars
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.clone_lock import exclusive_run
from flows.dvc_graph import Stage
from flows.dvc_runner import DvcRunner
from flows.overrides import overridden
from flows.prefect_client import server_client
from flows.prefect_gpu_slots import RENEW_INTERVAL_S, delete_record
from flows.run_failure import StageFailed, hide_tracebacks
from flows.stage_exchange import StageRequest, check_own_clone, prepare_worker, push_result
from flows.stage_runs import FAILED_STATES, run_here
from tasks.stage.errors import InputError

SIGN_OF_LIFE = "auglift-stage-"


@flow(name="auglift-stage", flow_run_name="{request.address}", persist_result=False)
def run_stage(request: StageRequest) -> State[Any]:
    """Bring this clone to the state of the run, run its one stage, push what it wrote.

    Returns:
        A state named as the stage's task would be on the coordinator's machine.
    """
    hide_tracebacks()
    say = get_run_logger().info
    runner = DvcRunner()
    stage = Stage(request.address, frozenset(request.needs), True, request.options)
    try:
        check_own_clone(request)
        with sign_of_life(), exclusive_run(say), overridden(request.overrides):
            prepare_worker(request)
            outcome = run_here(stage, runner, say, say)
            push_result(request.address)
    except InputError as error:
        return Failed(name="NotExchanged", message=str(error))
    except StageFailed as error:
        return Failed(name=FAILED_STATES.get(error.code, "Failed"), message=str(error))
    finally:
        runner.end()
    return Completed(name=outcome.value, message=f"on {socket.gethostname()}")


@contextmanager
def sign_of_life() -> Iterator[None]:
    """Renew a variable of the server while this flow lives, so that its death is noticed."""
    name = f"{SIGN_OF_LIFE}{flow_run.id}"
    stop = threading.Event()

    def renew() -> None:
        while True:
            with suppress(httpx.HTTPError), server_client() as client:
                write_sign(client, name, socket.gethostname())
            if stop.wait(RENEW_INTERVAL_S):
                return

    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(renew), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(RENEW_INTERVAL_S)
        with suppress(httpx.HTTPError), server_client() as client:
            delete_record(client, name)


def write_sign(client: Any, name: str, machine: str) -> None:
    """Renew a worker's variable on the server; make it where it is not, or no longer, there."""
    try:
        client.request("PATCH", f"/variables/name/{name}", json={"value": machine})
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        client.request("POST", "/variables/", json={"name": name, "value": machine})
