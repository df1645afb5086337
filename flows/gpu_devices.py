"""Give each trainer a GPU of its own where the limit `gpu` lets several train at once.

A stage sees its GPU alone, by `CUDA_VISIBLE_DEVICES`; workers that see the same GPU take turns.
With a limit of one a trainer sees all GPUs that the worker sees, for `train_gan.processes`.
"""

import os
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_HOME

from flows.gpu_slots import prefect_run_name
from flows.prefect_gpu_slots import GPU, machine_id
from flows.waiting import FileLock, local_time, wait_until, waiting_message

VISIBLE = "CUDA_VISIBLE_DEVICES"
GPU_IF_ANY = "gpu-if-any"  # tag of a stage that may train beside another one on processor cores


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    if VISIBLE in os.environ:
        return [word.strip() for word in os.environ[VISIBLE].split(",") if word.strip()]
    numbers = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*")]
    return sorted((found[1] for found in numbers if found), key=int)


def needs_gpu_slot(tags: Collection[str]) -> bool:
    """Check whether a stage with these tags waits for the limit `gpu` on this machine."""
    return GPU in tags or (GPU_IF_ANY in tags and bool(visible_devices()))


@contextmanager
def hold_gpu_device(say: Callable[[str], None], ended: threading.Event) -> Iterator[dict[str, str]]:
    """Hold a GPU that no other trainer uses; yield the variables by which a stage sees it alone.

    Raises:
        StageFailed: when the run ended first.
    """
    devices = visible_devices()
    if not devices or trainers_at_once() < 2:
        yield {}
        return
    held: list[tuple[str, FileLock]] = []

    def attempt() -> str | None:
        holders = []
        for device in devices:
            lock = FileLock(device_lock(device))
            if lock.acquire(f"run {prefect_run_name()} since {local_time()}"):
                held.append((device, lock))
                return None
            holders.append(lock.read_holder())
        return waiting_message("a GPU of this machine", holders)

    try:
        wait_until(attempt, say, ended)
        device, _ = held[0]
        say(f"trains on GPU {device}")
        yield {VISIBLE: device}
    finally:
        for _, lock in held:
            lock.release()


def device_lock(device: str) -> Path:
    """Return the lock file of a GPU of this machine."""
    name = re.sub(r"[^\w-]", "_", f"{machine_id()}-{device}")
    return Path(PREFECT_HOME.value(), "gpu-devices", name)


def trainers_at_once() -> int:
    """Return the server's limit `gpu`."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_global_concurrency_limit_by_name(GPU).limit
        except ObjectNotFound:
            return 1
