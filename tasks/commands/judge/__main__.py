"""Compare a folder of synthetic images with real ones; `auglift judge` runs this.

Reads `--real` (patients the generator never saw), `--synthetic` and, when given, `--train` (what
it saw); writes `verdict.json`, `samples.parquet` and `report.html` into `--out`. Limits come from
`params.yaml` where there is one, else they are the defaults. Exit codes: 0 accepted, 3 rejected,
2 could not judge, with the reason in one line.
"""

import json
from pathlib import Path

from tasks import params
from tasks.commands.command_line import run_options
from tasks.commands.judge import image_folders, verdict_page
from tasks.commands.judge.options import JudgeOptions
from tasks.common import torch_setup
from tasks.gate.evaluate import check_size, evaluate, prepare_reference
from tasks.generate.slice_table import FILE_COLUMN
from tasks.params.gate import Gate
from tasks.stage import errors, processes

REJECTED = 3


def main() -> None:
    """Run the command and exit with the code of the verdict."""
    processes.die_with_parent()
    run_options(JudgeOptions, judge, name="auglift judge")


def judge(options: JudgeOptions) -> None:
    """Judge the folders and exit with the code of the verdict."""
    verdict = run(options.real, options.synthetic, options.train, options.out)
    raise SystemExit(0 if verdict == "accepted" else REJECTED)


def run(real: Path, synthetic: Path, train: Path | None, out: Path) -> str:
    """Read the folders, judge them, and write `verdict.json`, `samples.parquet` and `report.html`.

    Returns:
        `accepted` or `rejected`.

    Raises:
        InputError: when a folder cannot be read or nothing can be judged.
    """
    if out.exists() and not out.is_dir():
        raise errors.InputError(f"{out} is no folder; give --out a folder, new or not")
    config = params.read_section(Gate) if params.PARAMS.exists() else Gate(seed=0, threads=1)
    device = str(torch_setup.setup_torch(config.threads))
    read = {"synthetic": image_folders.read_folder(synthetic, name="synthetic")}
    read["real"] = image_folders.read_folder(real, name="real")
    generated, unseen = read["synthetic"].slices, read["real"].slices
    check_size("synthetic", generated, unseen)
    notes = []
    if train is None:
        seen, unseen = image_folders.split_patients(unseen, seed=config.seed)
        notes.append(
            "No training slices were given (--train): copies were sought among one half of the"
            " real patients only, so copies of others go unseen."
        )
    else:
        read["train"] = image_folders.read_folder(train, name="train")
        seen = read["train"].slices
        check_size("training", seen, unseen)
        notes += filter(None, [image_folders.check_separate(read["train"], read["real"])])
        both, note = image_folders.drop_lonely_sites({"--train": seen, "--real": unseen})
        seen, unseen = both["--train"], both["--real"]
        notes += filter(None, [note])
    if not read["real"].named:
        notes.append(
            "No patients are named (slices.csv, column subject): every slice counts as a patient,"
            " which makes the intervals too narrow."
        )
    assumed = {name: folder.assumed for name, folder in read.items()}
    for name, side in (("synthetic", generated), ("real", unseen)):
        if not side.table["masked"].any():
            notes.append(
                f"The {name} slices have no masks: nothing is said about tumours' outlines."
            )
    result = evaluate(
        generated, prepare_reference(seen, unseen, config, device=device), config, device=device
    )
    out.mkdir(parents=True, exist_ok=True)
    document = result.as_json() | {"notes": notes, "assumed": assumed}
    (out / "verdict.json").write_text(json.dumps(document, indent=1) + "\n")
    samples = result.samples
    if FILE_COLUMN in generated.table:
        samples = samples.assign(**{FILE_COLUMN: generated.table[FILE_COLUMN].to_numpy()})
    samples.to_parquet(out / "samples.parquet", index=False)
    (out / "report.html").write_text(
        verdict_page.render_page(result, generated, seen, notes, assumed)
    )
    print(f"{result.verdict}: {result.images['accepted']} of {result.images['n']} images pass")
    missing = [
        f"{name}: not measured: {why}"
        for name, why in result.not_measured_without_rejection().items()
    ]
    for line in [*result.reasons, *notes, *missing]:
        print(f"- {line}")
    print(f"assumed: {image_folders.format_assumptions(assumed)}")
    print(f"{out}/report.html")
    return result.verdict


if __name__ == "__main__":
    main()
