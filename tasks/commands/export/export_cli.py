"""Pack a trained generator for other tools; `auglift export` runs this.

Writes a MONAI bundle, or a folder from which medigan runs the generator. Both hold the weights as
safetensors, copies of the few modules that draw, and what must be known of the slices; neither
needs auglift. A generator that the gate did not accept stays, unless --anyway is given: its
slices may be copies of patients'. One that learnt from fewer patients than
release.min_patients_of_generator stays in any case. Exit codes: 0 done, 2 wrong input, reported
in one line.
"""

import argparse
from pathlib import Path

from tasks import params
from tasks.commands.export import generator_source, medigan_package, monai_bundle
from tasks.commands.export.new_folder import write_new_folder
from tasks.commands.export.standalone_generator import GeneratorInfo
from tasks.params.release import Release
from tasks.stage.errors import InputError
from tasks.stage.processes import die_with_parent
from tasks.stage.stage_runtime import exit_with_error

FORMATS = {"monai-bundle": monai_bundle.write_bundle, "medigan": medigan_package.write_package}


def main() -> None:
    """Parse the command line, check the generator, write the package."""
    parser = argparse.ArgumentParser(
        prog="auglift export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--from", dest="folder", type=Path, default=Path("data/gan/0"))
    parser.add_argument("--anyway", action="store_true", help="also what was not accepted")
    options = parser.parse_args()
    die_with_parent()
    try:
        info, weights = generator_source.read_generator_info(options.folder)
        generator_source.build_checked_generator(info, weights)
        check_patients(options.folder, info)
        if not options.anyway:
            check_verdict(options.folder, info)
        with write_new_folder(options.out) as out:
            FORMATS[options.format](out, info, weights)
    except InputError as error:
        exit_with_error("export", str(error))
    print(f"{options.out}: {options.format}, verdict of the gate: {info.verdict}")


def check_patients(folder: Path, info: GeneratorInfo) -> None:
    """Reject a generator that learnt from so few patients that it may tell of one of them.

    Raises:
        InputError: when they are fewer than `release.min_patients_of_generator`, or not known.
    """
    least = (
        params.read_section(Release).min_patients_of_generator
        if params.PARAMS.exists()
        else int(Release.model_fields["min_patients_of_generator"].default)
    )
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
