"""Share what every entry point needs: exit codes, error lines, signals, the option `--workers`."""

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tasks.commands import command_line

DONE, OTHER, REJECTED = 0, 1, 3

Workers = Annotated[
    int,
    typer.Option(
        min=0, envvar="AUGLIFT_WORKERS", help="Stages at once; 0 for as many as processors."
    ),
]
SetWords = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A value of params.yaml, this time only; the file stays as it is. Repeat it.",
    ),
]
PresetNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="The values of presets/NAME.yaml, this time; --set wins. Repeat it.",
    ),
]


def run_app(app: typer.Typer) -> None:
    """Run a command line and exit; what goes wrong is one line, with `--debug` a traceback."""
    words = sys.argv[1:]
    raise SystemExit(command_line.exit_code_of(app, words, name="auglift", hide=without_secrets))


def run_command(command: Callable[..., None]) -> None:
    """Run a single command, as `python -m flows.pipeline` does."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    run_app(app)


def print_error(message: str, code: int) -> int:
    """Print an error as one line on stderr, without secrets; return the exit code to leave with."""
    return command_line.print_error(without_secrets(message), code)


def without_secrets(message: str) -> str:
    """Return a message without passwords and tokens."""
    from flows.secret_values import hide_secrets  # reads no option, so --help does not wait for it

    return hide_secrets(message)


def end_on_sigterm() -> None:
    """Let SIGTERM end a run as Ctrl-C does: with one line, and with no stage left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
