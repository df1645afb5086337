"""What every stage shares: how it starts, reads an input, writes an output, fails.

A stage is a function `main` whose parameters are the stage's items (a fold, a batch, ...).
It is run from the repository's root, dies with the process that started it, and either writes
its output whole or leaves nothing.

Items come from `params.yaml` and become parts of commands and paths, so each must be a word
(`check_word`). `dvc.yaml` hands them on as `--batch NAME`, which DVC quotes for the shell, and
declares of each the output `data/names/STAGE/item-NAME.word`: `.dvcignore` lets DVC write there
only what is a word, so DVC refuses any other name before it removes or runs anything.
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
    """Run a stage's `main` with the command line's words and leave with its exit code.

    Exit codes: 0 done, 2 wrong input and 130 interrupted (one line on stderr), 1 anything else (a
    traceback).
    """
    name = Path(inspect.getfile(main)).relative_to(Path(__file__).parents[1]).parts[0]
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
        exit_with_error(
            label, "the disk is full; free some space (`dvc gc -w` drops unused versions), rerun"
        )
    except KeyboardInterrupt:
        exit_with_error(label, "interrupted, nothing is half written; run it again", INTERRUPTED)


def read_items(name: str, expected: list[str], words: list[str]) -> list[str]:
    """The items on a command line, one behind the other or as `--fold 0`; each must be a word."""
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
    """Print one line and leave with an exit code."""
    print(f"{label}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)
