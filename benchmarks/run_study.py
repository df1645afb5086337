"""Run a study: one DVC experiment for every size of the training set, draw and variant.

    python -m benchmarks.run_study --plan benchmarks/lgg.yaml --data ../shared/data/lgg \
        --work /tmp/lgg-study --part 1/2

Works in clones of this repository under `--work`, one for each part, which share a DVC cache, and
collects each experiment's results in `--work`/results/SIZE-DRAW/VARIANT/. Existing results are
not computed again, so that a killed study resumes. Parts may run side by side. Draws are the outer
loop, so that a study that is cut short has all sizes of its first draws.
`python -m benchmarks.study_report --work ...` reads the results.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.stage.processes import die_with_parent

ROOT = Path(__file__).parents[1]
COLLECTED = ("lift.json", "downstream", "gate", "slices/stats.json")
BATCH = "data/raw"


@dataclass(frozen=True)
class StudyCell:
    """One experiment: `overrides` are keys of params.yaml."""

    size: int
    draw: int
    variant: str
    overrides: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of its results, under `results/`."""
        return Path(f"{self.size}-{self.draw}") / self.variant

    @property
    def arguments(self) -> list[str]:
        """The arguments of `dvc exp run`."""
        return [
            argument
            for key, value in self.overrides.items()
            for argument in (
                "-S",
                f"++{key}={hydra_value(value)}",
            )  # ++: also keys that have a default
        ]


def main() -> None:
    """Run the cells of one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", default="1/1", help="which of how many, such as 2/2")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="more")
    parser.add_argument("--sizes", type=int, nargs="*")
    parser.add_argument("--draws", type=int, nargs="*")
    options = parser.parse_args()
    die_with_parent()
    plan = read_plan(options.plan)
    plan["more"] = {
        k: yaml.safe_load(v) for k, _, v in (setting.partition("=") for setting in options.more)
    }
    plan["sizes"] = options.sizes or plan["sizes"]
    plan["draws"] = options.draws or plan["draws"]
    part, parts = map(int, options.part.split("/"))
    clone = prepare_clone(options.work, f"clone-{part}", [options.data], plan)
    results = options.work / "results"
    all_cells = list(study_cells(plan))
    for number, (_, group) in enumerate(group_by_generator(all_cells)):
        if number % parts != part - 1:
            continue
        for cell in group:
            folder = results / cell.folder
            if not folder.exists() and not run_cell(cell, clone, folder, key=plan["key"]):
                break  # its variants would fail like it


def read_plan(path: Path) -> dict[str, Any]:
    """Read a plan; one that `extends` another, beside it, states only what it changes."""
    plan: dict[str, Any] = yaml.safe_load(path.read_text())
    if "extends" in plan:
        base = read_plan(path.with_name(plan.pop("extends")))
        plan["set"] = base["set"] | plan.get("set", {})
        plan = base | plan
    return plan


def study_cells(plan: dict[str, Any]) -> Iterator[StudyCell]:
    """Yield every experiment of a plan, draw by draw."""
    for draw in plan["draws"]:
        for size in plan["sizes"]:
            cell_settings = {"slices.train_patients": size, "slices.draw": draw}
            cell_settings |= dict.fromkeys(plan["seeds"], 100 * draw + size)
            cell_settings |= {plan["network_seeds"]: [draw]} | plan["by_size"].get(size, {})
            cell_settings |= plan.get("more", {})  # of the command line
            for name, changes in plan["variants"].items():
                restriction = changes.get("only", {})
                if size in restriction.get("sizes", [size]) and draw in restriction.get(
                    "draws", [draw]
                ):
                    changed = {key: value for key, value in changes.items() if key != "only"}
                    yield StudyCell(size, draw, name, plan["set"] | cell_settings | changed)


def group_by_generator(study: list[StudyCell]) -> list[tuple[tuple[int, int], list[StudyCell]]]:
    """Group the variants of a size and draw, which share a generator."""
    groups: dict[tuple[int, int], list[StudyCell]] = {}
    for cell in study:
        groups.setdefault((cell.draw, cell.size), []).append(cell)
    return list(groups.items())


def batches_of(plan: dict[str, Any]) -> list[str]:
    """Return the names of a plan's batches, in the order of its folders of data."""
    return list(plan.get("batches", [plan["batch"]]))


def prepare_clone(work: Path, name: str, data: Sequence[Path], plan: dict[str, Any]) -> Path:
    """Prepare a clone with the data in it, on the cache that all clones share.

    Of the patients of the plan's `batch` only those that it names, where it names any; of its
    further batches all.
    """
    clone = work.resolve() / name
    if not (clone / ".complete").exists():
        shutil.rmtree(clone, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        git = ["git", "-C", str(clone)]
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run([*git, "config", "user.name", "auglift"], check=True)
        subprocess.run([*git, "config", "user.email", "auglift@localhost"], check=True)
        # The lock files name outputs of the demo, which are absent here and DVC may ask for.
        subprocess.run([*git, "rm", "-q", "dvc.lock", "data/raw/dvc.lock"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "Start without outputs"], check=True)
        cache = str(work.resolve() / "cache")
        for key, value in (("cache.dir", cache), ("cache.type", "hardlink,copy")):
            subprocess.run(
                [sys.executable, "-m", "dvc", "config", "--local", key, value],
                cwd=clone, check=True,
            )  # fmt: skip
        for batch_name, source in zip(batches_of(plan), data, strict=True):
            shutil.copytree(source.resolve(), clone / BATCH / batch_name, symlinks=False)
        batch = clone / BATCH / plan["batch"]
        for folder in (*batch.glob("sub-*"), *batch.glob("derivatives/*/sub-*")):
            if folder.name not in plan.get("patients", [folder.name]):
                shutil.rmtree(folder)
        (clone / ".git/info/exclude").open("a").write("/.complete\n")
        start = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True)
        (clone / ".complete").write_bytes(start.stdout)
    return clone


def run_cell(cell: StudyCell, clone: Path, folder: Path, *, key: str) -> bool:
    """Run one experiment and collect its results; a failure does not end the study."""
    # A killed experiment leaves its params staged and no branch checked out.
    first = (clone / ".complete").read_text().strip()
    subprocess.run(["git", "-C", str(clone), "checkout", "-q", "--force", first], check=True)
    environment = os.environ | {
        "AUGLIFT_KEY": key,
        "PYTHONPATH": str(clone),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "DO_NOT_TRACK": "1",
    }
    name = str(cell.folder).replace("/", "-")
    command = [sys.executable, "-m", "flows.dvc_process", "exp", "run", "-n", name]
    # An experiment of that name exists where its results were removed to compute them again.
    subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "remove", "-q", name],
        cwd=clone, capture_output=True, check=False,
    )  # fmt: skip
    start = time.monotonic()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.log").open("w") as log:
        code = subprocess.run(
            [*command, *cell.arguments, "lift"],
            cwd=clone, env=environment, stdout=log, stderr=log, check=False,
        ).returncode  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    print(f"{name}: {'done' if code == 0 else f'failed ({code})'}, {minutes:.1f} min", flush=True)
    if code:
        return False
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shutil.copy2(clone / "params.yaml", partial)
    for path in COLLECTED:
        source, target = clone / "data" / path, partial / Path(path).name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    wanted = {
        f"{task}-{arm}"
        for task in cell.overrides["downstream.tasks"]
        for arm in cell.overrides["downstream.arms"]
    }
    for arm_folder in (partial / "downstream").iterdir():  # a dropped arm stays on disk
        if arm_folder.name not in wanted:
            shutil.rmtree(arm_folder)
    partial.replace(folder)
    return True


def hydra_value(value: Any) -> str:
    """Format a value in Hydra's grammar for overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(hydra_value(item) for item in value) + "]"
    return "null" if value is None else str(value)


if __name__ == "__main__":
    main()
