"""Write a release as other tools read data sets; `auglift export-dataset` runs this.

Formats: `nnunet` (raw data set of nnU-Net v2), `monai-datalist` (Decathlon datalist for
load_decathlon_datalist), `bids` (the release's BIDS tree), `folder` (PNG with slices.csv, as
`auglift judge` reads it). The slices are those of data/release, or of a folder that
`auglift release fetch` wrote; its checksums are verified first. With release.contents augmented
the data set holds real training slices beside the synthetic ones.

    auglift export-dataset --format nnunet --out $nnUNet_raw/Dataset501_Auglift
    auglift export-dataset --format monai-datalist --out lists/auglift --from releases/v1.2.0

Exit codes: 0 done, 2 wrong input, reported in one line, 3 the release was refused.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.commands.export.new_folder import write_new_folder
from tasks.commands.export_dataset.monai_datalist import write_monai_datalist
from tasks.commands.export_dataset.nnunet import write_nnunet
from tasks.commands.export_dataset.release_folder import (
    RELEASE,
    RefusedReleaseError,
    ReleaseFolder,
    read_release,
)
from tasks.stage.errors import InputError
from tasks.stage.stage_runtime import exit_with_error

REFUSED = 3


def copy_tree(name: str) -> Callable[[ReleaseFolder, Path], str]:
    """Return a format that is a folder of the release, as it is there."""

    def write(release: ReleaseFolder, out: Path) -> str:
        shutil.copytree(release.folder / name, out, dirs_exist_ok=True)
        left_out = sum(each.mask is None and not each.synthetic for each in release.slices)
        return f"{len(release.slices) - left_out * (name == 'png')} slices"

    return write


FORMATS: dict[str, Callable[[ReleaseFolder, Path], str]] = {
    "nnunet": write_nnunet,
    "monai-datalist": write_monai_datalist,
    "bids": copy_tree("bids"),
    "folder": copy_tree("png"),
}


def main() -> None:
    """Parse the command line, read the release, write the data set."""
    parser = argparse.ArgumentParser(
        prog="auglift export-dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument(
        "--from", dest="folder", type=Path, default=RELEASE, help=f"a release; else {RELEASE}"
    )
    options = parser.parse_args()
    try:
        release = read_release(options.folder)
        with write_new_folder(options.out) as out:
            written = FORMATS[options.format](release, out)
    except RefusedReleaseError as error:
        exit_with_error("export-dataset", str(error), REFUSED)
    except InputError as error:
        exit_with_error("export-dataset", str(error))
    print(f"{options.out}: {options.format}, {written}. {release.description}")


if __name__ == "__main__":
    main()
