"""Draw slices on demand; `auglift generate` runs this.

Draws from the generator of a clone (`data/gan/FOLD`) or of a package that `auglift export`
wrote (`options.GenerateOptions`). Every file is marked as synthetic.
"""

import datetime
import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from tasks.commands.command_line import run_options
from tasks.commands.export import generator_source
from tasks.commands.export.new_folder import write_new_folder
from tasks.commands.export.options import GenerateOptions
from tasks.commands.export.standalone_generator import (
    GeneratorInfo,
    generate_slices,
    subject_name,
)
from tasks.generate.sample_generator import GeneratedSlice
from tasks.stage.errors import InputError
from tasks.stage.processes import die_with_parent

README = """# Synthetic slices

SYNTHETIC. Drawn by a generator of auglift, version {version}; they show no person and are no
evidence about one. Not for diagnosis.

    auglift generate --count {count} --label {label} --seed {seed} --format {format}{more}

Weights of the generator (SHA-256): {digest}
Licence: {license_words}
The gate's verdict on what this generator drew: {verdict}
Can it be told who trained? {membership}

`{table}` names each slice with its label (1 tumour, 0 none), the area of its mask, and its
index: with the same generator and seed, an index always gives the same slice.
"""


def main() -> None:
    """Parse the command line and write the slices."""
    die_with_parent()
    run_options(GenerateOptions, generate, name="auglift generate")


def generate(options: GenerateOptions) -> None:
    """Generate the slices and write them into a new folder.

    Raises:
        InputError: when there is no such generator, or it cannot do what is asked for.
    """
    info, weights = generator_source.read_generator_info(options.folder)
    with write_new_folder(options.out) as out:
        tumors = write_slices(out, info, weights, options)
    print(f"{options.count} slices in {options.out}, {tumors} of them with a tumour")


def write_slices(out: Path, info: GeneratorInfo, weights: Path, options: GenerateOptions) -> int:
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
            site=options.site,
        )
        slices = tqdm(
            generate_slices(generator, info, request),
            total=options.count, desc="generate", unit="slice", leave=False, disable=None,
        )  # fmt: skip
        for index, sample in slices:
            name = subject_name(info, request, index, sample.label)
            write_slice(out, name, sample, info=info, kind=options.format, digest=digest)
            area = int(sample.mask.sum()) * info.pixel_mm**2
            rows.append((name, name, sample.label, round(area, 1), index))
    except ValueError as error:
        raise InputError(f"{options.folder}: {error}") from None
    columns = ["name", "subject", "label", "tumor_area_mm2", "index"]
    write_table(out, pd.DataFrame(sorted(rows), columns=columns), info=info, kind=options.format)
    readme_fields = asdict(options) | {"digest": digest, "license_words": info.license_words}
    readme_fields |= {"verdict": info.verdict, "membership": info.membership}
    readme_fields["table"] = "participants.tsv" if options.format == "nifti" else "slices.csv"
    requested = {"--tumor-area-mm2": options.tumor_area_mm2, "--position-mm": options.position_mm}
    readme_fields["more"] = "".join(
        f" {key} {value:g}" for key, value in requested.items() if value is not None
    )
    if options.site is not None:
        readme_fields["more"] += f" --site {shlex.quote(options.site)}"
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


if __name__ == "__main__":
    main()
