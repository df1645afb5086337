"""Read what a run was made of and what came of it, at any git revision, and compare two runs."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from flows.release_git import git, git_output
from tasks import params
from tasks.common.small_cells import is_small, show_counts
from tasks.stage.errors import InputError
from tasks.stage.params_file import PARAMS

WORKSPACE: Final = "workspace"
RELEASE: Final = "data/release/release.json"
LIFT: Final = "data/lift.json"
SLICES: Final = "data/slices/slices.parquet"
PARTITIONS: Final = ("train", "val", "test")


@dataclass(frozen=True)
class RunRecord:
    """What a run was made of and what came of it.

    `partitions` maps each fold to the partition of each patient. `gates` and `lift` are the
    contents of `metrics.json` and `lift.json`; `release` is that of `release.json`, empty where
    nothing was released; `params` are the leaf values of `params.yaml`.
    """

    name: str
    partitions: dict[str, dict[str, str]]
    gates: dict[str, dict[str, Any]]
    lift: dict[str, Any]
    release: dict[str, Any]
    params: dict[str, Any]

    @property
    def patients(self) -> set[str]:
        """The patients in any partition of any fold."""
        return {subject for fold in self.partitions.values() for subject in fold}

    def figures(self, smallest_cell: int = 1) -> dict[str, str]:
        """Return the figures as texts by name, in the order of the tables."""
        return dict(describe_figures(self, smallest_cell))


def read_record(name: str) -> RunRecord:
    """Read a run from a tag, a commit, an experiment of DVC, or the current files (`workspace`).

    Raises:
        InputError: when there is none of that name, or git or DVC cannot give its files.
    """
    read: Callable[[list[str]], dict[str, bytes]] = read_here
    if name == WORKSPACE:
        text = PARAMS.read_text(encoding="utf-8-sig")
    else:
        revision = find_revision(name)
        text, read = git_output("show", f"{revision}:params.yaml"), reader_at(revision, name)
    tree = YAML(typ="safe").load(text)
    folds = [str(fold) for fold in tree["slices"]["folds"]]
    gates = {fold: f"data/gate/{fold}/metrics.json" for fold in folds}
    files = read([SLICES, LIFT, *gates.values()])
    try:
        release = json.loads(read([RELEASE])[RELEASE])
    except InputError:
        release = {}  # refused, or an experiment that did not go as far
    return RunRecord(
        name,
        read_partitions(files[SLICES], folds),
        {fold: json.loads(files[path]) for fold, path in gates.items()},
        json.loads(files[LIFT]),
        release,
        dict(params.leaf_values(tree)),
    )


def find_revision(name: str) -> str:
    """Return the commit of a tag, a branch, a commit, or an experiment of DVC.

    Raises:
        InputError: when there is none, or several experiments have the name.
    """
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.strip()
    lines = git_output(
        "for-each-ref", "refs/exps", "--format=%(objectname) %(refname)"
    ).splitlines()
    commits = {line.split()[0] for line in lines if line.rpartition("/")[2] == name}
    if len(commits) == 1:
        return commits.pop()
    if commits:
        raise InputError(f"{len(commits)} experiments are named {name}; give a commit instead")
    raise InputError(
        f"{name} is no tag, branch, commit or experiment here; `git tag`, `git log` and `dvc exp"
        f" list` show what there is, {WORKSPACE} is the current files"
    )


def read_here(paths: list[str]) -> dict[str, bytes]:
    """Read the current files.

    Raises:
        InputError: naming the file that is missing.
    """
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{path} is missing; `dvc repro` or `auglift run` writes it")
    return {path: Path(path).read_bytes() for path in paths}


def reader_at(revision: str, name: str) -> Callable[[list[str]], dict[str, bytes]]:
    """Return a function that reads files as they were at a revision; errors give its name."""
    from flows.dvc_graph import read_at_revision

    def read(paths: list[str]) -> dict[str, bytes]:
        try:
            return read_at_revision(paths, revision)
        except InputError as error:
            raise InputError(str(error).replace(revision, name)) from None

    return read


def read_partitions(parquet: bytes, folds: list[str]) -> dict[str, dict[str, str]]:
    """Read each patient's partition in each fold from `slices.parquet`, without unused patients.

    Raises:
        InputError: the table has no such fold.
    """
    import pandas as pd

    table = pd.read_parquet(io.BytesIO(parquet))
    partitions = {}
    for fold in folds:
        column = f"partition_{fold}"
        if column not in table:
            raise InputError(f"{SLICES} has no fold {fold}")
        used = table[table[column] != "unused"]
        partitions[fold] = dict(zip(used["subject"], used[column], strict=True))
    return partitions


def describe_figures(run: RunRecord, smallest_cell: int) -> Iterator[tuple[str, str]]:
    """Yield the rows of a run's column: contents, patients, slices, gate, lift."""
    yield "contents", run.release.get("contents", "synthetic" if run.release else "-")
    for fold, partition_of in run.partitions.items():
        values = list(partition_of.values())
        numbers = [[values.count(name)] for name in PARTITIONS]
        counts = show_counts(numbers, smallest_cell)
        words = zip(counts, PARTITIONS, strict=True)
        yield f"patients, fold {fold}", ", ".join(f"{count} {name}" for (count,), name in words)
    yield "synthetic slices", str(run.release.get("slices", 0))
    yield "real slices", str(run.release.get("real_slices", 0))
    for fold, gate in run.gates.items():
        images = gate["images"]
        yield f"gate, fold {fold}", f"{gate['verdict']}, {images['accepted']} of {images['n']}"
        for name, measure in gate["measures"].items():
            yield f"gate, fold {fold}: {name}", format_number(measure.get("ratio"))
    for task, claim in run.lift["claim"].items():
        yield f"lift, {task}", claim
        metric = run.lift.get("primary", {}).get(task)
        for arm, figures in run.lift["tasks"].get(task, {}).get(metric, {}).items():
            text = format_number(figures.get("mean"))
            if figures.get("lift_over_real") is not None:
                text += f" ({figures['lift_over_real']:+.3f})"
            yield f"lift, {task}: {metric} {arm}", text
    yield "review", run.release.get("review", "-")


def format_number(value: float | None) -> str:
    """Format three significant digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def changed_figures(
    before: RunRecord, after: RunRecord, smallest_cell: int = 1
) -> list[tuple[str, str, str]]:
    """Return rows (what, old, new) of the figures that differ."""
    old, new = before.figures(smallest_cell), after.figures(smallest_cell)
    rows = [(name, old.get(name, "-"), new.get(name, "-")) for name in dict.fromkeys([*old, *new])]
    return [row for row in rows if row[1] != row[2]]


def changed_params(before: RunRecord, after: RunRecord) -> list[tuple[str, str, str]]:
    """Return rows (key, old, new) of the params that differ."""
    return [
        (f"params: {key}", show_value(before.params, key), show_value(after.params, key))
        for key in dict.fromkeys([*before.params, *after.params])
        if before.params.get(key) != after.params.get(key)
    ]


def show_value(values: dict[str, Any], key: str) -> str:
    """Return a param's value as text, or a dash where the run has no such key."""
    return str(values[key]) if key in values else "-"


def describe_changes(before: RunRecord, after: RunRecord, smallest_cell: int = 1) -> list[str]:
    """Say in sentences what changed: patients, slices, gate, lift, params."""
    joined, left = after.patients - before.patients, before.patients - after.patients
    moved = sum(
        before.partitions[fold].get(subject, partition) != partition
        for fold in set(before.partitions) & set(after.partitions)
        for subject, partition in after.partitions[fold].items()
    )
    counts = [
        f"fewer than {smallest_cell}" if is_small(number, smallest_cell) else str(number)
        for number in (len(joined), len(left), moved)
    ]
    known = "" if "fewer" in counts[0] + counts[1] else f", {len(after.patients)} in {after.name}"
    lines = [
        f"Patients: {len(before.patients)} in {before.name}{known};"
        f" {counts[0]} joined, {counts[1]} left, {counts[2]} moved to another partition."
    ]
    old_figures, new_figures = before.figures(), after.figures()
    for name in ("synthetic slices", "real slices"):
        old, new = int(old_figures[name]), int(new_figures[name])
        what = name.capitalize()
        lines += [f"{what}: {old}, then {new} ({new - old:+d})."] if old + new else []
    for name, new_text in new_figures.items():
        if re.fullmatch(r"gate, fold [^:]+|lift, [^:]+", name):
            old_text = old_figures.get(name, "not there")
            same = old_text == new_text
            text = f"{new_text}, as before" if same else f"{old_text}, then {new_text}"
            lines.append(f"{name.capitalize()}: {text}.")
    changed = len(changed_params(before, after))
    lines.append(f"Params: {changed} changed." if changed else "Params: none changed.")
    return lines
