"""Compare a folder of synthetic images with real ones; `auglift judge` runs this.

Reads `--real` (patients the generator never saw), `--synthetic` and, when given, `--train` (what
it saw); writes `verdict.json`, `samples.parquet` and `report.html` into `--out`. Limits come from
`params.yaml` where there is one, else they are the defaults. Exit codes: 0 accepted, 3 rejected,
2 could not judge, with the reason in one line.
"""

from pathlib import Path

from tasks.commands.command_line import run_options
from tasks.commands.judge.image_folders import read_folder
from tasks.commands.judge.judgement import judge_slices
from tasks.commands.judge.options import JudgeOptions
from tasks.stage import processes
from tasks.stage.errors import InputError

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
        raise InputError(f"{out} is no folder; give --out a folder, new or not")
    judgement = judge_slices(
        read_folder(real, name="real"),
        read_folder(synthetic, name="synthetic"),
        None if train is None else read_folder(train, name="train"),
    )
    judgement.write(out)
    print("\n".join(judgement.lines()))
    print(f"{out}/report.html")
    return judgement.result.verdict


if __name__ == "__main__":
    main()
