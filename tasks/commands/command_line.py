"""Declare the options of a command once, and run it: errors in one line, a traceback on request.

A command that needs torch is a process of its own. Its options are a dataclass in a module without
torch (`tasks/commands/NAME/options.py`): `flows/cli.py` shows its help and checks the words before
it starts the process, and the process parses the same words with the same dataclass.
"""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast, get_type_hints

import typer
from typer.core import TyperCommand

from tasks.stage.errors import WRONG_INPUT, InputError

UNEXPECTED: Final = 1
DEBUG: Final = "AUGLIFT_DEBUG"  # set: an unexpected error shows its traceback
USUAL_CODES: Final = "0 done, 2 wrong input (one line says what), 1 anything else"
WORDS: Final = "auglift.words"
# Any error of a command line; Typer exports no name for it.
ClickError = cast(type[Exception], typer.BadParameter.__mro__[2])

Options = TypeVar("Options")


def help_end(*examples: str, codes: str = USUAL_CODES) -> str:
    """Return the end of a help text: examples, a line each, and exit codes."""
    lines = ["Examples:" if len(examples) > 1 else "Example:", *(f"$ {each}" for each in examples)]
    return "\n\n".join([*lines, f"Exit codes: {codes}."])


def command_of(options: type[Options], run: Callable[[Options], None]) -> Callable[..., None]:
    """Return a function with the fields of a dataclass as parameters, as Typer reads commands."""

    def command(**values: Any) -> None:
        run(options(**values))

    return give_signature(command, options)


def forwarded_command_of(options: type, start: Callable[[list[str]], None]) -> Callable[..., None]:
    """Return a function for a `ForwardedCommand`, which receives the words as they were given."""

    def command(context: typer.Context, **_: Any) -> None:
        start(context.meta[WORDS])

    return give_signature(command, options, context=typer.Context)


def give_signature(
    command: Callable[..., None], options: type, **more: type
) -> Callable[..., None]:
    """Give a function the fields of a dataclass, and more, as keyword parameters; return it."""
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in more]
    parameters += inspect.signature(options).parameters.values()
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    hints = get_type_hints(options, include_extras=True) | more
    command.__annotations__ = {each.name: hints[each.name] for each in parameters}
    command.__doc__ = options.__doc__
    return command


class ForwardedCommand(TyperCommand):
    """A command that keeps its words as they were given, for the process that runs it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words, and keep them in the context."""
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)


def run_options(options: type[Options], run: Callable[[Options], None], *, name: str) -> None:
    """Parse the words of this process with a dataclass, and run a command with them.

    Raises:
        SystemExit: with the exit code, where it is not 0.
    """
    app = typer.Typer(add_completion=False)
    app.command(epilog=getattr(options, "epilog", None))(command_of(options, run))
    if code := exit_code_of(app, sys.argv[1:], name=name):
        raise SystemExit(code)


def exit_code_of(
    app: typer.Typer,
    words: Sequence[str],
    *,
    name: str,
    hide: Callable[[str], str] = str,
) -> int:
    """Run a command line and return its exit code.

    What goes wrong is one line on stderr: wrong words and wrong input with exit code 2, an
    unexpected error with 1. Its traceback is shown with `--debug` or where AUGLIFT_DEBUG is set.
    `hide` takes secrets out of a message.
    """
    words = take_debug(list(words))
    command = typer.main.get_command(app)
    show_no_type_of_flags(command)
    try:
        code = command.main(words, prog_name=name, standalone_mode=False)
    except InputError as error:
        return print_error(hide(str(error)), WRONG_INPUT, name=name)
    except ClickError as error:
        return print_usage_error(error, name=name)
    except (typer.Abort, BrokenPipeError):
        return UNEXPECTED
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
            return UNEXPECTED
        reason = " ".join(hide(str(error)).split())[:300]
        return print_error(
            f"unexpected {type(error).__name__}{': ' * bool(reason)}{reason}; run it again with"
            " --debug for the traceback",
            UNEXPECTED,
            name=name,
        )
    return code if isinstance(code, int) else 0


def show_no_type_of_flags(command: Any) -> None:
    """Let `--help` show flags without `<bool>`, which reads as if a value had to follow."""
    for option in [*command.params, command.get_help_option(typer.Context(command))]:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    for below in getattr(command, "commands", {}).values():
        show_no_type_of_flags(below)


def take_debug(words: list[str]) -> list[str]:
    """Return the words without `--debug`, which may stand anywhere; set AUGLIFT_DEBUG for it."""
    end = words.index("--") if "--" in words else len(words)
    if "--debug" in words[:end]:
        os.environ[DEBUG] = "1"
    return [word for at, word in enumerate(words) if word != "--debug" or at >= end]


def print_usage_error(error: Any, *, name: str) -> int:
    """Print what is wrong with the words of a command line, and where its help is."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return WRONG_INPUT
    path = name if context is None else context.command_path
    message = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    return print_error(f"{message}; `{path} --help` lists what is allowed", WRONG_INPUT, name=path)


def print_error(message: str, code: int, *, name: str = "auglift") -> int:
    """Print an error as one line on stderr; return the exit code that goes with it."""
    typer.echo(f"{name}: {' '.join(message.split())}", err=True)
    return code
