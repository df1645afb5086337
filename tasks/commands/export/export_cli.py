"""Pack a trained generator for other tools; `auglift export` runs this.

`options.ExportOptions` says what it writes and what it never packs.
"""

from dataclasses import replace
from pathlib import Path

from tasks import params
from tasks.commands.command_line import run_options
from tasks.commands.export import generator_source, medigan_package, monai_bundle
from tasks.commands.export.new_folder import write_new_folder
from tasks.commands.export.options import ExportOptions
from tasks.commands.export.standalone_generator import GeneratorInfo
from tasks.params.release import Release
from tasks.stage.errors import InputError
from tasks.stage.params_file import PARAMS
from tasks.stage.processes import die_with_parent

FORMATS = {"monai-bundle": monai_bundle.write_bundle, "medigan": medigan_package.write_package}


def main() -> None:
    """Parse the command line and write the package."""
    die_with_parent()
    run_options(ExportOptions, export, name="auglift export")


def export(options: ExportOptions) -> None:
    """Write the package.

    Raises:
        InputError: when there is no such generator, or it must not be packed.
    """
    info, weights = generator_source.read_generator_info(options.folder)
    generator_source.build_checked_generator(info, weights)
    check_patients(options.folder, info)
    if not options.anyway:
        check_verdict(options.folder, info)
    info = replace(info, training_patients=told_patients(info))
    with write_new_folder(options.out) as out:
        FORMATS[options.format](out, info, weights)
    print(f"{options.out}: {options.format}, verdict of the gate: {info.verdict}")


def check_patients(folder: Path, info: GeneratorInfo) -> None:
    """Reject a generator that learnt from so few patients that it may tell of one of them.

    Raises:
        InputError: when they are fewer than `release.min_patients_of_generator`, or not known.
    """
    least = least_patients()
    known = info.training_patients
    if least and (known is None or known < least):
        learnt = (
            "how many patients this generator learnt from is not known"
            if known is None
            else f"this generator learnt from {known} patients"
        )
        raise InputError(
            f"{folder}: {learnt}, and release.min_patients_of_generator is {least}: from so few it"
            " may tell of one; train on more, or agree on that param with your data-protection"
            " officer"
        )


def least_patients() -> int:
    """Return `release.min_patients_of_generator`, or its default outside a clone."""
    if PARAMS.exists():
        return params.read_section(Release).min_patients_of_generator
    return int(Release.model_fields["min_patients_of_generator"].default)


def told_patients(info: GeneratorInfo) -> int | None:
    """Return the number of training patients that a package tells: no more than is required.

    The exact one, beside the numbers in a data card, could tell how few of them were left out.
    """
    known, least = info.training_patients, least_patients()
    return min(known, least) if known is not None and least else None


def check_verdict(folder: Path, info: GeneratorInfo) -> None:
    """Reject a generator that may show patients, so that it does not leave by mistake.

    Raises:
        InputError: when the gate did not accept what it draws.
    """
    if info.verdict == generator_source.NOT_JUDGED:
        raise InputError(
            f"{folder}: the gate has not judged this generator; run `dvc repro gate`, or add"
            " --anyway, and the package says so"
        )
    if info.verdict != "accepted":
        raise InputError(
            f"{folder}: the gate rejected what this generator draws (see `auglift summary`); train"
            " a better one, or add --anyway, and the package says so"
        )


if __name__ == "__main__":
    main()
