"""Write a release as other tools read data sets; `auglift export-dataset` runs this.

The slices are those of data/release, or of a folder that `auglift release fetch` wrote
(`options.ExportDatasetOptions`).
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.commands.command_line import print_error, run_options
from tasks.commands.export.new_folder import write_new_folder
from tasks.commands.export_dataset.monai_datalist import write_monai_datalist
from tasks.commands.export_dataset.nnunet import write_nnunet
from tasks.commands.export_dataset.options import ExportDatasetOptions
from tasks.commands.export_dataset.release_folder import (
    RefusedReleaseError,
    ReleaseFolder,
    read_release,
)

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
    """Parse the command line and write the data set."""
    run_options(ExportDatasetOptions, export_dataset, name="auglift export-dataset")


def export_dataset(options: ExportDatasetOptions) -> None:
    """Read the release and write the data set; a refused release ends with exit code 3."""
    try:
        release = read_release(options.folder)
        with write_new_folder(options.out) as out:
            written = FORMATS[options.format](release, out)
    except RefusedReleaseError as error:
        code = print_error(str(error), REFUSED, name="auglift export-dataset")
        raise SystemExit(code) from None
    print(f"{options.out}: {options.format}, {written}. {release.description}")


if __name__ == "__main__":
    main()
