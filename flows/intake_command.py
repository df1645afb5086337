"""`auglift intake`: its options. The intake itself is `flows.intake`."""

from typing import Annotated

import typer

from flows.entry_point import Workers
from tasks.commands.command_line import help_end

INTAKE_EPILOG = help_end(
    "auglift intake  # look once, take what is complete, run the pipeline",
    "auglift intake --watch  # again and again, until it is ended",
    "auglift intake --start deployment  # the pipeline runs as a run of its deployment",
    "touch data/inbox/ward7/.complete  # take this drop without a quiet period",
    codes="0 done, 2 a drop was quarantined or the clone is wrong, 3 rejected, 1 anything else",
)


def intake(
    inbox: Annotated[str, typer.Option(help="The folder that is watched.")] = "data/inbox",
    quiet: Annotated[
        float, typer.Option(min=0, help="A drop is complete after so many seconds unchanged.")
    ] = 60,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until it is ended.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 30,
    start: Annotated[
        str, typer.Option(help="here: run the pipeline; deployment: start its run; no: do not.")
    ] = "here",
    workers: Workers = 0,
) -> None:
    """Make complete drops of the inbox batches, then run the pipeline (docs/intake.md)."""
    from flows.intake import run_intake

    raise typer.Exit(run_intake(inbox, quiet, start, workers, every=every if watch else None))
