"""End a run that was started from a shell when somebody cancels it in the server's pages.

For a run of a deployment its worker does that. A shell has no worker: without this, the run would
stay in the state `Cancelling`, and go on.
"""

import contextvars
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment, flow_run

from flows.prefect_client import server_client
from flows.prefect_server import is_users_server

POLL_S = 3.0
CANCELLED_MESSAGE = "cancelled on the server; the next run goes on from here"
CANCELLED = (StateType.CANCELLING, StateType.CANCELLED)


class RunCancelled(BaseException):
    """Somebody cancelled this run on the server."""


def raise_cancelled(*_: object) -> None:
    """End what the main thread does.

    Raises:
        RunCancelled: always.
    """
    raise RunCancelled


@contextmanager
def ended_when_cancelled() -> Iterator[None]:
    """Look every few seconds whether this run was cancelled; if so, end it as Ctrl-C does.

    The signal is SIGUSR1: a shell lets what it starts in the background ignore SIGINT.

    Raises:
        RunCancelled: it was.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if deployment.id or not is_users_server() or not in_main_thread:
        yield
        return
    run_id = flow_run.id
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_S):
            with suppress(httpx.HTTPError, ObjectNotFound), server_client() as client:
                state = client.read_flow_run(run_id).state
                if state is not None and state.type in CANCELLED and not done.is_set():
                    os.kill(os.getpid(), signal.SIGUSR1)
                    return

    before = signal.signal(signal.SIGUSR1, raise_cancelled)
    context = contextvars.copy_context()
    threading.Thread(target=lambda: context.run(watch), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        # A signal may be on its way: it is ignored, or ends the flow that called this one.
        signal.signal(
            signal.SIGUSR1, raise_cancelled if before is raise_cancelled else signal.SIG_IGN
        )
