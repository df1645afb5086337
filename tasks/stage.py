"""What every stage shares: how it starts, reads an input, writes an output, fails.

A stage is a function `main` whose parameters are the stage's items (a fold, a batch, ...).
It is run from the repository's root, dies with the process that started it, and either writes
its output whole or leaves nothing.

Items come from `params.yaml` and become parts of commands and paths, so each must be a word
(`check_word`). `dvc.yaml` hands them on as `--batch NAME`, which DVC quotes for the shell, and
declares of each the output `data/names/STAGE/item-NAME.word`: `.dvcignore` lets DVC write there
only what is a word, so DVC refuses any other name before it removes or runs anything.
"""

import ctypes
import errno
import fcntl
import inspect
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WRONG_INPUT, INTERRUPTED = 2, 130
NAMES = Path("data/names")
# Files that DVC takes for its own or, by .dvcignore, for rubbish.
TAKEN = (".dvc", ".partial", ".pyc", ".word", "dvc.yaml", "dvc.lock", "dvcfile")

# Names the parent's process id for a child that calls `die_with_parent`.
PARENT = "AUGLIFT_PARENT"
# How long an output may still be in the hands of a trainer whose DVC was killed.
LAST_WRITER_S = 30.0


class InputError(Exception):
    """Wrong input, said in one line: what was found, what was expected, what to do next."""


def run_stage(main: Callable[..., None]) -> None:
    """Run a stage's `main` with the command line's words and leave with its exit code.

    Exit codes: 0 done, 2 wrong input and 130 interrupted (one line on stderr), 1 anything else (a
    traceback).
    """
    name = Path(inspect.getfile(main)).relative_to(Path(__file__).parent).parts[0]
    name = name.removesuffix(".py")
    expected = list(inspect.signature(main).parameters)
    die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which tasks/__init__.py had put off
    items = read_items(name, expected, sys.argv[1:])
    label = "@".join([name, "-".join(items)]) if items else name
    try:
        main(*items)
        if items:
            write_name_output(name, items)
    except InputError as error:
        exit_with_error(label, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        exit_with_error(label, "the disk is full; free some space (`dvc gc -w` drops unused versions), rerun")
    except KeyboardInterrupt:
        exit_with_error(label, "interrupted, nothing is half written; run it again", INTERRUPTED)


def read_items(name: str, expected: list[str], words: list[str]) -> list[str]:
    """The items on a command line, one behind the other or as `--fold 0`; each must be a word."""
    usage = " ".join(["python -m", f"tasks.{name}", *map(str.upper, expected)])
    if len(words) == 2 * len(expected) and words[::2] == [f"--{item}" for item in expected]:
        words = words[1::2]
    if len(words) != len(expected):
        exit_with_error(name, f"{len(words)} arguments given, {len(expected)} expected; usage: {usage}")
    for item, word in zip(expected, words, strict=True):
        try:
            check_item_name(word, besides="+" if item == "arm" else "")
        except ValueError as error:
            exit_with_error(name, f"{item} {word!r}: {error}; change it in params.yaml")
    return words


def write_name_output(name: str, items: list[str]) -> None:
    """Write the output that DVC knows an item's name by."""
    note = NAMES / name / f"item-{'-'.join(items)}.word"
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_name(f"{note.name}.{os.getpid()}.partial")  # ranks of a training write too
    partial.write_text("-".join(items) + "\n")
    partial.replace(note)


def check_item_name(word: str, *, besides: str = "") -> str:
    """Let a name pass that can be part of a command and of a path: letters of any script are fine.

    Raises:
        ValueError: saying what a name may be.
    """
    if not re.fullmatch(rf"[^\W_][\w.\-{re.escape(besides)}]*", word):
        allowed = ", ".join(f"'{sign}'" for sign in f".-_{besides}")
        raise ValueError(
            f"a name has letters, digits, {allowed}, and begins with a letter or digit"
        )
    if len(word.encode()) > 100 or word.lower().endswith(TAKEN):
        raise ValueError(
            f"a name has at most 100 bytes, and no ending that is DVC's: {', '.join(TAKEN)}"
        )
    return word


def exit_with_error(label: str, message: str, code: int = WRONG_INPUT) -> None:
    """Print one line and leave with an exit code."""
    print(f"{label}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask Linux for a signal when the parent ends, so that no orphaned trainer lives on.

    A parent that ended before this call sends nothing. Where `AUGLIFT_PARENT` names it, the
    caller is ended at once.
    """
    parent = int(os.environ.pop(PARENT, "0"))
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if parent and os.getppid() != parent and not is_running(parent):
        os.kill(os.getpid(), number)


def is_running(pid: int) -> bool:
    """Whether a process of this machine has not ended; a zombie has."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except PermissionError:
        return True
    except (ProcessLookupError, FileNotFoundError):
        return False


def init_worker_process() -> None:
    """Begin a worker process: it dies with its parent, and Ctrl-C is the parent's to answer."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
def output_lock(path: Path) -> Iterator[None]:
    """Hold the lock of an output for as long as it is being written.

    A trainer whose DVC was killed a moment ago may still hold it: half a minute is waited.
    """
    lock = Path(".locks") / str(path).replace("/", "__")
    taken = f"{path} is being written by another process; wait for it or end it, then rerun"
    with file_lock(lock, taken, patience_s=LAST_WRITER_S):
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
