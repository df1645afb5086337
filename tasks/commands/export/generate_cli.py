"""Draw slices on demand; `auglift generate` runs this.

Draws from the generator of a clone (`data/gan/FOLD`) or of a package that `auglift export`
wrote, on the processor. The first slices of a long list are those of a short one with the same
seed. Every file is marked as synthetic. Exit codes: 0 done, 2 wrong input, reported in one line.
"""

import argparse
import datetime
import json
import math
from pathlib import Path

import pandas as pd

from tasks.commands.export import generator_source
from tasks.commands.export.new_folder import write_new_folder
from tasks.commands.export.standalone_generator import (
    TUMOR_SHARES,
    GeneratorInfo,
    generate_slices,
    subject_name,
)
from tasks.generate.sample_generator import GeneratedSlice
from tasks.stage.errors import InputError
from tasks.stage.processes import die_with_parent
from tasks.stage.stage_runtime import exit_with_error

FORMATS = ("png", "nifti", "dicom")

README = """# Synthetic slices

SYNTHETIC. Drawn by a generator of auglift, version {version}; they show no person and are no
evidence about one. Not for diagnosis.

    auglift generate --count {count} --label {label} --seed {seed} --format {format}{more}

Weights of the generator (SHA-256): {digest}
Licence: {license_words}
The gate's verdict on what this generator drew: {verdict}

`{table}` names each slice with its label (1 tumour, 0 none), the area of its mask, and its
index: with the same generator and seed, an index always gives the same slice.
"""


def main() -> None:
    """Parse the command line, generate the slices, write them."""
    parser = argparse.ArgumentParser(
        prog="auglift generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=positive_integer, required=True, help="how many slices")
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--label", choices=TUMOR_SHARES, default="both")
    parser.add_argument("--seed", type=natural_number, default=0)
    parser.add_argument("--format", choices=FORMATS, default="png")
    parser.add_argument(
        "--tumor-area-mm2", type=positive_number, help="where the generator was taught it"
    )
    parser.add_argument("--position-mm", type=finite_number, help="up from the middle of the brain")
    parser.add_argument("--from", dest="folder", type=Path, default=Path("data/gan/0"))
    options = parser.parse_args()
    die_with_parent()
    try:
        info, weights = generator_source.read_generator_info(options.folder)
        with write_new_folder(options.out) as out:
            tumors = write_slices(out, info, weights, options)
    except InputError as error:
        exit_with_error("generate", str(error))
    print(f"{options.count} slices in {options.out}, {tumors} of them with a tumour")


def write_slices(out: Path, info: GeneratorInfo, weights: Path, options: argparse.Namespace) -> int:
    """Generate the slices and write each as it comes; return how many show a tumour.

    With both labels by turns it need not be half: a slice that never matches its label is left out,
    and a poor generator may be able to generate one label only.
    """
    generator = generator_source.build_checked_generator(info, weights)
    digest = info.weights_sha256
    rows = []
    try:
        request = info.sampling_request(
            count=options.count,
            label=options.label,
            seed=options.seed,
            tumor_area_mm2=options.tumor_area_mm2,
            position_mm=options.position_mm,
        )
        for index, sample in generate_slices(generator, info, request):
            name = subject_name(info, request, index, sample.label)
            write_slice(out, name, sample, info=info, kind=options.format, digest=digest)
            area = int(sample.mask.sum()) * info.pixel_mm**2
            rows.append((name, name, sample.label, round(area, 1), index))
    except ValueError as error:
        raise InputError(f"{options.folder}: {error}") from None
    columns = ["name", "subject", "label", "tumor_area_mm2", "index"]
    write_table(out, pd.DataFrame(sorted(rows), columns=columns), info=info, kind=options.format)
    readme_fields = vars(options) | {"digest": digest, "license_words": info.license_words}
    readme_fields["verdict"] = info.verdict
    readme_fields["table"] = "participants.tsv" if options.format == "nifti" else "slices.csv"
    requested = {"--tumor-area-mm2": options.tumor_area_mm2, "--position-mm": options.position_mm}
    readme_fields["more"] = "".join(
        f" {key} {value:g}" for key, value in requested.items() if value is not None
    )
    (out / "README.md").write_text(README.format(version=info.version, **readme_fields))
    return sum(label for _, _, label, _, _ in rows)


def write_table(out: Path, table: pd.DataFrame, *, info: GeneratorInfo, kind: str) -> None:
    """Write `slices.csv`, or for NIfTI its BIDS counterpart, `participants.tsv`."""
    if kind == "png":
        from tasks.release import png_writer

        png_writer.write_slices_csv(out, table, table["name"].tolist(), modalities=info.modalities)
    elif kind == "dicom":
        table.to_csv(out / "slices.csv", index=False, lineterminator="\n")
    else:
        from tasks.release import nifti_writer
        from tasks.release.data_card import PARTICIPANT_COLUMNS

        participants = table.rename(columns={"name": "participant_id"}).drop(columns="subject")
        participants.to_csv(out / "participants.tsv", sep="\t", index=False, lineterminator="\n")
        column_descriptions = PARTICIPANT_COLUMNS | {
            "index": {"Description": "Draws the slice again with the same seed"}
        }
        descriptions = {str(name): column_descriptions[str(name)] for name in participants}
        (out / "participants.json").write_text(json.dumps(descriptions, indent=2) + "\n")
        nifti_writer.write_bids_root(
            out,
            modalities=info.modalities,
            version=info.version,
            license_words=info.license_words,
            digest=info.weights_sha256,
            skull_stripped=info.skull_stripped,
        )


def write_slice(
    out: Path, name: str, sample: GeneratedSlice, *, info: GeneratorInfo, kind: str, digest: str
) -> None:
    """Write one slice and its mask in the release's format."""
    if kind == "png":
        from tasks.release import png_writer

        png_writer.write_png(out, name, sample.image, sample.mask, modalities=info.modalities)
    elif kind == "nifti":
        from tasks.release import nifti_writer

        anat = out / name / "anat"
        anat.mkdir(parents=True)
        nifti_writer.write_nifti(
            anat,
            name,
            sample.image,
            sample.mask,
            modalities=info.modalities,
            pixel_mm=info.pixel_mm,
            mark=info.mark,
        )
    else:
        from tasks.release import dicom_writer

        instances = out / name
        instances.mkdir()
        dicom_writer.write_dicom(
            instances,
            name,
            sample.image,
            sample.mask,
            modalities=info.modalities,
            label=sample.label,
            stamp=dicom_writer.ReleaseStamp(
                digest, info.version, datetime.date.fromisoformat(info.date), info.pixel_mm
            ),
        )


def positive_integer(text: str) -> int:
    """Parse a whole number above 0."""
    if (number := natural_number(text)) == 0:
        raise argparse.ArgumentTypeError("0 is too few, expected at least 1")
    return number


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    if (number := finite_number(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no area, expected square millimetres above 0")
    return number


def finite_number(text: str) -> float:
    """Parse a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return number


def natural_number(text: str) -> int:
    """Parse a whole number, 0 or above."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, expected 0, 1, 2, ...")
    return int(text)


if __name__ == "__main__":
    main()
