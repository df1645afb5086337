"""Start a stage: read its items from the command line, run it, turn failures into exit codes.

A stage is a function `main` whose parameters are the stage's items (a fold, a batch, ...).
It runs from the repository's root, dies with the process that started it, and either writes its
output completely or leaves nothing.
"""

import errno
import inspect
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tasks.stage.errors import INTERRUPTED, WRONG_INPUT, InputError
from tasks.stage.item_names import check_item_name, write_name_output
from tasks.stage.processes import die_with_parent


def run_stage(main: Callable[..., None]) -> None:
    """Run a stage's `main` with the items of the command line; exit with the stage's code.

    Exit codes: 0 done, 2 wrong input and 130 interrupted (one line on stderr), 1 anything else (a
    traceback).
    """
    name = Path(inspect.getfile(main)).relative_to(Path(__file__).parents[1]).parts[0]
    name = name.removesuffix(".py")
    expected = list(inspect.signature(main).parameters)
    die_with_parent()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tasks/__init__.py ignored it during imports
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
        exit_with_error(
            label, "the disk is full; free some space (`dvc gc -w` drops unused versions), rerun"
        )
    except KeyboardInterrupt:
        exit_with_error(label, "interrupted, nothing is half written; run it again", INTERRUPTED)


def read_items(name: str, expected: list[str], words: list[str]) -> list[str]:
    """Read the items of a command line, given in order or as `--fold 0`, and check each name.

    Exits with 2 where an item is missing or its name is not allowed.
    """
    usage = " ".join(["python -m", f"tasks.{name}", *map(str.upper, expected)])
    if len(words) == 2 * len(expected) and words[::2] == [f"--{item}" for item in expected]:
        words = words[1::2]
    if len(words) != len(expected):
        exit_with_error(
            name, f"{len(words)} arguments given, {len(expected)} expected; usage: {usage}"
        )
    for item, word in zip(expected, words, strict=True):
        try:
            check_item_name(word, besides="+" if item == "arm" else "")
        except ValueError as error:
            exit_with_error(name, f"{item} {word!r}: {error}; change it in params.yaml")
    return words


def exit_with_error(label: str, message: str, code: int = WRONG_INPUT) -> None:
    """Print one line on stderr and exit with a code."""
    print(f"{label}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)
