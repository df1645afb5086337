"""Read inputs and write outputs of a stage: errors that name the file, atomic outputs, locks."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.stage.errors import InputError

# How long a trainer whose DVC was killed may still hold its output.
LOCK_PATIENCE_S = 30.0


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write to; move it into place when all went well.

    A `path` with a suffix is a file; without one it is a folder, which is created first.
    Only one process may write a path at a time: a second one fails with an `InputError`.
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
    """Hold the lock of an output while it is being written.

    A trainer whose DVC was killed a moment ago may still hold the lock: wait half a minute.
    """
    lock = Path(".locks") / str(path).replace("/", "__")
    taken = f"{path} is being written by another process; wait for it or end it, then rerun"
    with file_lock(lock, taken, patience_s=LOCK_PATIENCE_S):
        yield


@contextmanager
def file_lock(lock: Path, otherwise: str, *, patience_s: float = 0) -> Iterator[None]:
    """Hold a lock file. The kernel frees the lock when its holder ends, however it ends.

    Args:
        lock: The file; it is created where it is missing.
        otherwise: The message of the error.
        patience_s: How long to wait for another process that holds the lock, in seconds.

    Raises:
        InputError: when another process still holds the lock.
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
    """Give a file, or a folder's files, the mode of the umask, whatever library wrote them."""
    mask = os.umask(0o077)
    os.umask(mask)
    for file in [path, *path.rglob("*")]:
        if file.is_file():
            file.chmod(0o666 & ~mask)


def discard(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into one line that names the file and the remedy.

    Raises:
        InputError: when the file is missing, or reading it fails in any way.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing; `dvc repro` lets its stage write it") from None
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path} is damaged: {reason}; remove it and run `dvc checkout` or `dvc repro`"
        ) from None
