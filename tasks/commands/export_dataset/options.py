"""The options of `auglift export-dataset`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import typer

from tasks.commands.command_line import help_end

RELEASE: Final = Path("data/release")


@dataclass(frozen=True, kw_only=True)
class ExportDatasetOptions:
    """Write a release as other tools read data sets; its checksums are verified first.

    nnunet: raw data set of nnU-Net v2. monai-datalist: Decathlon datalist for
    load_decathlon_datalist. bids: the release's BIDS tree. folder: PNG with slices.csv, as `auglift
    judge` reads it. With release.contents augmented, real training slices lie beside the synthetic
    ones.
    """

    format: Annotated[
        Literal["nnunet", "monai-datalist", "bids", "folder"], typer.Option(help="See above.")
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.")]
    folder: Annotated[
        Path,
        typer.Option(
            "--from", metavar="DIR", help="A release, such as `auglift release fetch` wrote."
        ),
    ] = RELEASE

    epilog: ClassVar[str] = help_end(
        "auglift export-dataset --format nnunet --out $nnUNet_raw/Dataset501_Auglift",
        "auglift export-dataset --format monai-datalist --out lists --from releases/v1.2.0",
        codes="0 done, 2 wrong input (one line says what), 3 the release was refused, 1 anything"
        " else",
    )
