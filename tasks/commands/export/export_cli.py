"""Pack a trained generator for other tools; `auglift export` runs this.

Writes a MONAI bundle, or a folder from which medigan runs the generator. Both hold the weights as
safetensors, copies of the few modules that draw, and what must be known of the slices; neither
needs auglift. A generator that the gate did not accept stays, unless --anyway is given: its
slices may be copies of patients'. Exit codes: 0 done, 2 wrong input, said in one line.
"""

import argparse
from pathlib import Path

from tasks.commands.export import generator_source, medigan_package, monai_bundle
from tasks.commands.export.new_folder import write_new_folder
from tasks.commands.export.standalone_generator import GeneratorInfo
from tasks.stage.errors import InputError
from tasks.stage.processes import die_with_parent
from tasks.stage.stage_runtime import exit_with_error

FORMATS = {"monai-bundle": monai_bundle.write_bundle, "medigan": medigan_package.write_package}


def main() -> None:
    """Read the command line, check, write."""
    parser = argparse.ArgumentParser(
        prog="auglift export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--from", dest="folder", type=Path, default=Path("data/gan/0"))
    parser.add_argument("--anyway", action="store_true", help="also what was not accepted")
    words = parser.parse_args()
    die_with_parent()
    try:
        facts, weights = generator_source.read_generator_info(words.folder)
        generator_source.build_checked_generator(facts, weights)
        if not words.anyway:
            check_verdict(words.folder, facts)
        with write_new_folder(words.out) as out:
            FORMATS[words.format](out, facts, weights)
    except InputError as error:
        exit_with_error("export", str(error))
    print(f"{words.out}: {words.format}, verdict of the gate: {facts.verdict}")


def check_verdict(folder: Path, facts: GeneratorInfo) -> None:
    """Keep a generator that may show patients from leaving by mistake.

    Raises:
        InputError: when the gate did not accept what it draws.
    """
    if facts.verdict == generator_source.NOT_JUDGED:
        raise InputError(
            f"{folder}: the gate has not judged this generator; run `dvc repro gate`, or add"
            " --anyway, and the package says so"
        )
    if facts.verdict != "accepted":
        raise InputError(
            f"{folder}: the gate rejected what this generator draws (see `auglift summary`); train"
            " a better one, or add --anyway, and the package says so"
        )


if __name__ == "__main__":
    main()
