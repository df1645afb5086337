"""The options of `auglift generate` and `auglift export`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import typer

from tasks.commands.command_line import help_end

GENERATOR: Final = Path("data/gan/0")
NewFolder = Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.")]
GeneratorFolder = Annotated[
    Path,
    typer.Option(
        "--from",
        metavar="DIR",
        help="data/gan/FOLD of a clone, or a folder that `auglift export` wrote.",
    ),
]


def finite_number(text: str) -> float:
    """Parse a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{text!r} is no finite number")
    return number


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    if (number := finite_number(text)) <= 0:
        raise typer.BadParameter(f"{text} is no area, expected square millimetres above 0")
    return number


def natural_number(text: str) -> int:
    """Parse a whole number, 0 or above."""
    if not str(text).isdecimal():  # Typer parses the default as well, a number
        raise typer.BadParameter(f"{text!r} is no whole number, expected 0, 1, 2, ...")
    return int(text)


def positive_integer(text: str) -> int:
    """Parse a whole number above 0."""
    if (number := natural_number(text)) == 0:
        raise typer.BadParameter("0 is too few, expected at least 1")
    return number


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Draw synthetic slices on demand, each with its mask, marked as synthetic.

    Slice i of a seed is always the same slice, so the first slices of a long list are those of a
    short one. Runs on the processor.
    """

    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", metavar="N", parser=positive_integer, help="How many slices."
        ),
    ]
    out: NewFolder
    label: Annotated[
        Literal["tumor", "none", "both"], typer.Option(help="With a tumour, without, or by turns.")
    ] = "both"
    seed: Annotated[
        int, typer.Option(metavar="SEED", parser=natural_number, help="Which slices.")
    ] = 0
    format: Annotated[Literal["png", "nifti", "dicom"], typer.Option(help="Of the files.")] = "png"
    tumor_area_mm2: Annotated[
        float | None,
        typer.Option(
            metavar="MM2", parser=positive_number, help="Where the generator was taught it."
        ),
    ] = None
    position_mm: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            parser=finite_number,
            help="Up from the middle of the brain, where the generator was taught it.",
        ),
    ] = None
    site: Annotated[
        str | None,
        typer.Option(metavar="SITE", help="Whose scans they resemble, where it was taught it."),
    ] = None
    folder: GeneratorFolder = GENERATOR

    epilog: ClassVar[str] = help_end(
        "auglift generate --count 200 --label tumor --seed 7 --format nifti --out slices",
        "auglift generate -n 20 --from bundle --out slices",
    )


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Pack a trained generator for other tools: a MONAI bundle or a medigan package.

    Both hold the weights as safetensors and copies of the few modules that draw; neither needs
    auglift. A generator that the gate did not accept is not packed without --anyway: its slices may
    be copies of patients'. One that learnt from fewer patients than
    release.min_patients_of_generator is never packed.
    """

    format: Annotated[Literal["monai-bundle", "medigan"], typer.Option(help="Of the package.")]
    out: NewFolder
    folder: GeneratorFolder = GENERATOR
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Pack also what the gate did not accept.")
    ] = False

    epilog: ClassVar[str] = help_end(
        "auglift export --format monai-bundle --out bundle",
        "auglift export --format medigan --from data/gan/1 --out package",
    )
