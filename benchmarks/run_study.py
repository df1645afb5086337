"""Run a study: one DVC experiment for every size of the training set, draw and variant.

    python -m benchmarks.run_study --plan benchmarks/lgg.yaml --data ../shared/data/lgg \
        --work /tmp/lgg-study --part 1/2

Works in clones of this repository under `--work`, one for each part, which share a DVC cache, and
collects what each experiment left in `--work`/results/SIZE-DRAW/VARIANT/. What is there already is
not run again: start it anew after a kill and it goes on. Parts may run side by side. Draws are the
outer loop, so that a study that is cut short has all sizes of its first draws.
`python -m benchmarks.study_report --work ...` reads the results.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.stage.processes import die_with_parent

ROOT = Path(__file__).parents[1]
KEPT = ("lift.json", "downstream", "gate", "slices/stats.json")
BATCH = "data/raw"


@dataclass(frozen=True)
class Cell:
    """One experiment: `overrides` are keys of params.yaml."""

    size: int
    draw: int
    variant: str
    overrides: dict[str, Any]

    @property
    def place(self) -> Path:
        """Where its results go, under `results/`."""
        return Path(f"{self.size}-{self.draw}") / self.variant

    @property
    def words(self) -> list[str]:
        """The arguments of `dvc exp run`."""
        return [
            word
            for key, value in self.overrides.items()
            for word in ("-S", f"++{key}={flat(value)}")  # ++: also keys that have a default
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
    words = parser.parse_args()
    die_with_parent()
    plan = read(words.plan)
    plan["more"] = {k: yaml.safe_load(v) for k, _, v in (one.partition("=") for one in words.more)}
    plan["sizes"] = words.sizes or plan["sizes"]
    plan["draws"] = words.draws or plan["draws"]
    part, parts = map(int, words.part.split("/"))
    clone = prepare_cell(words.work, f"clone-{part}", words.data, plan)
    results = words.work / "results"
    mine = list(cells(plan))
    for number, (_, group) in enumerate(grouped(mine)):
        if number % parts != part - 1:
            continue
        for cell in group:
            place = results / cell.place
            if not place.exists() and not run(cell, clone, place, key=plan["key"]):
                break  # its variants would fail like it


def read(path: Path) -> dict[str, Any]:
    """A plan; one that `extends` another, beside it, says only what it changes."""
    plan: dict[str, Any] = yaml.safe_load(path.read_text())
    if "extends" in plan:
        whole = read(path.with_name(plan.pop("extends")))
        plan["set"] = whole["set"] | plan.get("set", {})
        plan = whole | plan
    return plan


def cells(plan: dict[str, Any]) -> Iterator[Cell]:
    """Every experiment of a plan, draw by draw."""
    for draw in plan["draws"]:
        for size in plan["sizes"]:
            own = {"slices.train_patients": size, "slices.draw": draw}
            own |= dict.fromkeys(plan["seeds"], 100 * draw + size)
            own |= {plan["network_seeds"]: [draw]} | plan["by_size"].get(size, {})
            own |= plan.get("more", {})  # of the command line
            for name, changes in plan["variants"].items():
                only = changes.get("only", {})
                if size in only.get("sizes", [size]) and draw in only.get("draws", [draw]):
                    changed = {key: value for key, value in changes.items() if key != "only"}
                    yield Cell(size, draw, name, plan["set"] | own | changed)


def grouped(every: list[Cell]) -> list[tuple[tuple[int, int], list[Cell]]]:
    """The variants of a size and draw belong together: they share a generator."""
    groups: dict[tuple[int, int], list[Cell]] = {}
    for cell in every:
        groups.setdefault((cell.draw, cell.size), []).append(cell)
    return list(groups.items())


def prepare_cell(work: Path, name: str, data: Path, plan: dict[str, Any]) -> Path:
    """A clone with the data in it, on the cache that all clones share.

    Of the data's patients only those that the plan names, where it names any.
    """
    clone = work.resolve() / name
    if not (clone / ".complete").exists():
        shutil.rmtree(clone, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        git = ["git", "-C", str(clone)]
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run([*git, "config", "user.name", "auglift"], check=True)
        subprocess.run([*git, "config", "user.email", "auglift@localhost"], check=True)
        # Of the demo's outputs that it names none is here, and DVC may ask for one.
        subprocess.run([*git, "rm", "-q", "dvc.lock", "data/raw/dvc.lock"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "Start without outputs"], check=True)
        cache = str(work.resolve() / "cache")
        for key, value in (("cache.dir", cache), ("cache.type", "hardlink,copy")):
            subprocess.run(
                [sys.executable, "-m", "dvc", "config", "--local", key, value],
                cwd=clone, check=True,
            )  # fmt: skip
        batch = clone / BATCH / plan["batch"]
        shutil.copytree(data.resolve(), batch, symlinks=False)
        for folder in (*batch.glob("sub-*"), *batch.glob("derivatives/*/sub-*")):
            if folder.name not in plan.get("patients", [folder.name]):
                shutil.rmtree(folder)
        (clone / ".git/info/exclude").open("a").write("/.complete\n")
        start = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True)
        (clone / ".complete").write_bytes(start.stdout)
    return clone


def run(cell: Cell, clone: Path, place: Path, *, key: str) -> bool:
    """Run one experiment and keep what it left; a failure is told and does not end the study."""
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
    name = str(cell.place).replace("/", "-")
    command = [sys.executable, "-m", "flows.dvc_process", "exp", "run", "-n", name]
    # One of that name is there when its results were removed, to have them anew.
    subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "remove", "-q", name],
        cwd=clone, capture_output=True, check=False,
    )  # fmt: skip
    start = time.monotonic()
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.log").open("w") as log:
        code = subprocess.run(
            [*command, *cell.words, "lift"],
            cwd=clone, env=environment, stdout=log, stderr=log, check=False,
        ).returncode  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    print(f"{name}: {'done' if code == 0 else f'failed ({code})'}, {minutes:.1f} min", flush=True)
    if code:
        return False
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shutil.copy2(clone / "params.yaml", partial)
    for kept in KEPT:
        source, target = clone / "data" / kept, partial / Path(kept).name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    wanted = {
        f"{task}-{arm}"
        for task in cell.overrides["downstream.tasks"]
        for arm in cell.overrides["downstream.arms"]
    }
    for folder in (partial / "downstream").iterdir():  # an arm that was dropped stays on disk
        if folder.name not in wanted:
            shutil.rmtree(folder)
    partial.replace(place)
    return True


def flat(value: Any) -> str:
    """A value as Hydra's grammar for overrides writes it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{flat(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(flat(one) for one in value) + "]"
    return "null" if value is None else str(value)


if __name__ == "__main__":
    main()
