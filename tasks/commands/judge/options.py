"""The options of `auglift judge`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from tasks.commands.command_line import help_end


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Judge a folder of synthetic images against real ones, from any source.

    A folder holds images.npy (and masks.npy), or PNG, JPEG or NIfTI files with _mask partners, and
    may hold slices.csv with the columns subject, label and site. Limits come from params.yaml where
    there is one. Writes verdict.json, samples.parquet and report.html.
    """

    real: Annotated[
        Path, typer.Option(metavar="DIR", help="Images of patients the generator never saw.")
    ]
    synthetic: Annotated[Path, typer.Option(metavar="DIR", help="Images to be judged.")]
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Images that the generator learnt from: copies are sought among them. Without it,"
            " among half of the real patients.",
        ),
    ] = None
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the verdict and its page are written.")
    ] = Path("judgement")

    epilog: ClassVar[str] = help_end(
        "auglift judge --real held_out --synthetic generated --train training",
        "auglift judge --real held_out --synthetic generated --out verdicts/run7",
        codes="0 accepted, 3 rejected, 2 could not judge (one line says why), 1 anything else",
    )
