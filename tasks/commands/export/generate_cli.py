"""Draw slices on demand; `auglift generate` runs this.

Draws from the generator of a clone (`data/gan/FOLD`) or of a package that `auglift export`
wrote, on the processor. The first slices of a long list are those of a short one with the same
seed. Every file is marked as synthetic. Exit codes: 0 done, 2 wrong input, said in one line.
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
    """Read the command line, draw, write."""
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
    words = parser.parse_args()
    die_with_parent()
    try:
        facts, weights = generator_source.read_generator_info(words.folder)
        with write_new_folder(words.out) as out:
            tumors = write_slices(out, facts, weights, words)
    except InputError as error:
        exit_with_error("generate", str(error))
    print(f"{words.count} slices in {words.out}, {tumors} of them with a tumour")


def write_slices(out: Path, facts: GeneratorInfo, weights: Path, words: argparse.Namespace) -> int:
    """Draw the slices, and write each as it comes; returns how many show a tumour.

    Of both labels by turns it need not be half: a slice that never agrees with its label is left
    out, and a poor generator may be able to draw one label only.
    """
    generator = generator_source.build_checked_generator(facts, weights)
    digest = facts.weights_sha256
    rows = []
    try:
        wish = facts.sampling_request(
            count=words.count,
            label=words.label,
            seed=words.seed,
            tumor_area_mm2=words.tumor_area_mm2,
            position_mm=words.position_mm,
        )
        for index, drawn in generate_slices(generator, facts, wish):
            name = subject_name(facts, wish, index, drawn.label)
            write_slice(out, name, drawn, facts=facts, kind=words.format, digest=digest)
            area = int(drawn.mask.sum()) * facts.pixel_mm**2
            rows.append((name, name, drawn.label, round(area, 1), index))
    except ValueError as error:
        raise InputError(f"{words.folder}: {error}") from None
    columns = ["name", "subject", "label", "tumor_area_mm2", "index"]
    write_table(out, pd.DataFrame(sorted(rows), columns=columns), facts=facts, kind=words.format)
    said = vars(words) | {"digest": digest, "license_words": facts.license_words}
    said["verdict"] = facts.verdict
    said["table"] = "participants.tsv" if words.format == "nifti" else "slices.csv"
    asked = {"--tumor-area-mm2": words.tumor_area_mm2, "--position-mm": words.position_mm}
    said["more"] = "".join(f" {key} {value:g}" for key, value in asked.items() if value is not None)
    (out / "README.md").write_text(README.format(version=facts.version, **said))
    return sum(label for _, _, label, _, _ in rows)


def write_table(out: Path, table: pd.DataFrame, *, facts: GeneratorInfo, kind: str) -> None:
    """Write `slices.csv`, or for NIfTI what BIDS has in its place, `participants.tsv`."""
    if kind == "png":
        from tasks.release import png_writer

        png_writer.write_table(out, table, table["name"].tolist(), modalities=facts.modalities)
    elif kind == "dicom":
        table.to_csv(out / "slices.csv", index=False, lineterminator="\n")
    else:
        from tasks.release import nifti_writer
        from tasks.release.data_card import COLUMNS

        people = table.rename(columns={"name": "participant_id"}).drop(columns="subject")
        people.to_csv(out / "participants.tsv", sep="\t", index=False, lineterminator="\n")
        told = COLUMNS | {"index": {"Description": "Draws the slice again with the same seed"}}
        meanings = {str(name): told[str(name)] for name in people}
        (out / "participants.json").write_text(json.dumps(meanings, indent=2) + "\n")
        nifti_writer.write_root(
            out,
            modalities=facts.modalities,
            version=facts.version,
            license_words=facts.license_words,
            digest=facts.weights_sha256,
            skull_stripped=facts.skull_stripped,
        )


def write_slice(
    out: Path, name: str, drawn: GeneratedSlice, *, facts: GeneratorInfo, kind: str, digest: str
) -> None:
    """One slice and its mask, as the release writes them."""
    if kind == "png":
        from tasks.release import png_writer

        png_writer.write(out, name, drawn.image, drawn.mask, modalities=facts.modalities)
    elif kind == "nifti":
        from tasks.release import nifti_writer

        anat = out / name / "anat"
        anat.mkdir(parents=True)
        nifti_writer.write(
            anat,
            name,
            drawn.image,
            drawn.mask,
            modalities=facts.modalities,
            pixel_mm=facts.pixel_mm,
            mark=facts.mark,
        )
    else:
        from tasks.release import dicom_writer

        instances = out / name
        instances.mkdir()
        dicom_writer.write(
            instances,
            name,
            drawn.image,
            drawn.mask,
            modalities=facts.modalities,
            label=drawn.label,
            stamp=dicom_writer.Stamp(
                digest, facts.version, datetime.date.fromisoformat(facts.date), facts.pixel_mm
            ),
        )


def positive_integer(word: str) -> int:
    """A whole number above 0."""
    if (number := natural_number(word)) == 0:
        raise argparse.ArgumentTypeError("0 is too few, expected at least 1")
    return number


def positive_number(word: str) -> float:
    """Parse a finite number above 0."""
    if (number := finite_number(word)) <= 0:
        raise argparse.ArgumentTypeError(f"{word} is no area, expected square millimetres above 0")
    return number


def finite_number(word: str) -> float:
    """Parse a finite number."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{word!r} is no finite number")
    return number


def natural_number(word: str) -> int:
    """A whole number, 0 or above."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number, expected 0, 1, 2, ...")
    return int(word)


if __name__ == "__main__":
    main()
