"""Inputs and outputs of a stage: errors that name the file, whole outputs, locks."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.stage.errors import InputError

# How long an output may still be in the hands of a trainer whose DVC was killed.
LOCK_PATIENCE_S = 30.0


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write to; move it into place when all went well.

    `path` with a suffix is a file, without one a folder (the folder exists when given).
    Only one process may write a path at a time: a second one fails with a `StageError`.
    """
    partial = path.with_name(f".{path.name}.partial")
    with output_lock(path):
        discard(partial)
        partial.parent.mkdir(parents=True, exist_ok=True)
        if not path.suffix:
            partial.mkdir()
        try:
            yield partial
            apply_umask(partial)
            discard(path)
            partial.replace(path)
        finally:
            discard(partial)


@contextmanager
def output_lock(path: Path) -> Iterator[None]:
    """Hold the lock of an output for as long as it is being written.

    A trainer whose DVC was killed a moment ago may still hold it: half a minute is waited.
    """
    lock = Path(".locks") / str(path).replace("/", "__")
    taken = f"{path} is being written by another process; wait for it or end it, then rerun"
    with file_lock(lock, taken, patience_s=LOCK_PATIENCE_S):
        yield


@contextmanager
def file_lock(lock: Path, otherwise: str, *, patience_s: float = 0) -> Iterator[None]:
    """Hold a lock; where another process does, fail with a `StageError` that says `otherwise`.

    The kernel frees the lock when its holder ends, however it ends.

    Args:
        lock: The lock's file; it is made where it is missing.
        otherwise: What the error says.
        patience_s: How long to wait for the other process, in seconds.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    waits = False
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise InputError(otherwise) from None
                if not waits:
                    print(f"{lock.name} is held by another process; waiting {patience_s:.0f} s")
                waits = True
                time.sleep(0.2)
        yield


def apply_umask(path: Path) -> None:
    """Let the umask say who may read a file or a folder's files, whatever library wrote them."""
    mask = os.umask(0o077)
    os.umask(mask)
    for file in [path, *path.rglob("*")]:
        if file.is_file():
            file.chmod(0o666 & ~mask)


def discard(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Say of an input that cannot be read which one it is and how to have it back.

    Raises:
        StageError: when the file is missing, or anything else goes wrong inside.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing; `dvc repro` lets its stage write it") from None
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path} is damaged: {said}; remove it and run `dvc checkout` or `dvc repro`"
        ) from None
