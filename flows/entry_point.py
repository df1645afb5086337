"""Share what every entry point needs: exit codes, error lines, signals, the option `--workers`."""

import signal
from collections.abc import Callable
from typing import Annotated

import typer

from tasks.stage.errors import WRONG_INPUT, InputError

DONE, OTHER, REJECTED = 0, 1, 3

Workers = Annotated[
    int,
    typer.Option(
        min=0, envvar="AUGLIFT_WORKERS", help="Stages at once; 0 for as many as processors."
    ),
]


def run_app(app: typer.Typer) -> None:
    """Run a command line; wrong input is one line and exit code 2."""
    try:
        app()
    except InputError as error:
        raise SystemExit(print_error(str(error), WRONG_INPUT)) from None


def run_command(command: Callable[..., None]) -> None:
    """Run a single command, as `python -m flows.pipeline` does."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    run_app(app)


def print_error(message: str, code: int) -> int:
    """Print an error as one line on stderr, without secrets; return the exit code to leave with."""
    from flows.secret_values import hide_secrets  # reads no option, so --help does not wait for it

    typer.echo(f"auglift: {hide_secrets(message)}", err=True)
    return code


def end_on_sigterm() -> None:
    """Let SIGTERM end a run as Ctrl-C does: with one line, and with no stage left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
