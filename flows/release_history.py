"""Compare released versions, find those that a patient went into, and recall one."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from flows.release_git import (
    ARTIFACT,
    ReleasedVersion,
    find_version,
    git_output,
    list_versions,
    update_tags,
    withdrawal_tag,
)
from flows.release_versions import one_line
from tasks import params
from tasks.stage.errors import InputError

PSEUDONYM: Final = re.compile(r"sub-[0-9a-f]{12}")
ROLES: Final = {
    "train": "its slices trained",
    "val": "its slices chose the weights and judged",
    "test": "its volumes tested",
}


@dataclass(frozen=True)
class VersionRecord:
    """What a version was made of, read from the files at its tag.

    `partitions` maps each fold to the partition of each patient. `figures` are texts by name, in
    the order of the table; `params` are the leaf values of `params.yaml`.
    """

    name: str
    partitions: dict[str, dict[str, str]]
    figures: dict[str, str]
    params: dict[str, Any]

    @property
    def patients(self) -> set[str]:
        """The patients in any partition of any fold."""
        return {subject for fold in self.partitions.values() for subject in fold}


def read_record(version: str) -> VersionRecord:
    """Read a version's record from its tag.

    Raises:
        InputError: when git or DVC cannot give its files.
    """
    from flows.dvc_graph import read_at_revision

    tree = yaml.safe_load(git_output("show", f"{version}:params.yaml"))
    folds = [str(fold) for fold in tree["slices"]["folds"]]
    paths = [
        "data/release/release.json", "data/lift.json", "data/slices/slices.parquet",
        *(f"data/gate/{fold}/metrics.json" for fold in folds),
    ]  # fmt: skip
    files = read_at_revision(paths, version)
    summary, lift = (json.loads(files[path]) for path in paths[:2])
    gates = {fold: json.loads(files[path]) for fold, path in zip(folds, paths[3:], strict=True)}
    partitions = read_partitions(files[paths[2]], folds)
    figures = dict(describe_figures(summary, partitions, gates, lift))
    return VersionRecord(version, partitions, figures, dict(params.leaf_values(tree)))


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
            raise InputError(f"data/slices/slices.parquet has no fold {fold}")
        used = table[table[column] != "unused"]
        partitions[fold] = dict(zip(used["subject"], used[column], strict=True))
    return partitions


def describe_figures(
    summary: dict[str, Any],
    partitions: dict[str, dict[str, str]],
    gates: dict[str, Any],
    lift: dict[str, Any],
) -> Iterator[tuple[str, str]]:
    """Yield the rows of a version's column: contents, patients, slices, gate, lift."""
    yield "contents", summary.get("contents", "synthetic")
    for fold, partition_of in partitions.items():
        values = list(partition_of.values())
        counts = ", ".join(f"{values.count(name)} {name}" for name in ROLES)
        yield f"patients, fold {fold}", counts
    yield "synthetic slices", str(summary["slices"])
    yield "real slices", str(summary.get("real_slices", 0))
    for fold, gate in gates.items():
        images = gate["images"]
        yield f"gate, fold {fold}", f"{gate['verdict']}, {images['accepted']} of {images['n']}"
        for name, measure in gate["measures"].items():
            yield f"gate, fold {fold}: {name}", format_number(measure.get("ratio"))
    for task, claim in lift["claim"].items():
        yield f"lift, {task}", claim
        metric = lift.get("primary", {}).get(task)
        for arm, figures in lift["tasks"].get(task, {}).get(metric, {}).items():
            text = format_number(figures.get("mean"))
            if figures.get("lift_over_real") is not None:
                text += f" ({figures['lift_over_real']:+.3f})"
            yield f"lift, {task}: {metric} {arm}", text
    yield "review", summary.get("review", "-")


def format_number(value: float | None) -> str:
    """Format three significant digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def diff_versions(old: str, new: str) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Compare two versions: sentences, and rows (what, old, new) of all that differs.

    Raises:
        InputError: when one is missing or cannot be read.
    """
    names = [find_version(each).name for each in (old, new)]
    before, after = map(read_record, names)
    rows = [
        (name, before.figures.get(name, "-"), after.figures.get(name, "-"))
        for name in [*before.figures, *(n for n in after.figures if n not in before.figures)]
    ]
    rows = [row for row in rows if row[1] != row[2]]
    keys = [*before.params, *(key for key in after.params if key not in before.params)]
    changed = [
        (f"params: {key}", show_value(before.params, key), show_value(after.params, key))
        for key in keys
        if before.params.get(key) != after.params.get(key)
    ]
    return describe_changes(before, after, len(changed)), rows + changed


def show_value(values: dict[str, Any], key: str) -> str:
    """Return a param's value as text, or a dash where the version has no such key."""
    return str(values[key]) if key in values else "-"


def describe_changes(before: VersionRecord, after: VersionRecord, changed: int) -> list[str]:
    """Say in sentences what changed: patients, slices, gate, lift, params."""
    joined, left = after.patients - before.patients, before.patients - after.patients
    moved = sum(
        before.partitions[fold].get(subject, partition) != partition
        for fold in set(before.partitions) & set(after.partitions)
        for subject, partition in after.partitions[fold].items()
    )
    lines = [
        f"Patients: {len(before.patients)} in {before.name}, {len(after.patients)} in {after.name};"
        f" {len(joined)} joined, {len(left)} left, {moved} moved to another partition."
    ]
    for name in ("synthetic slices", "real slices"):
        old, new = int(before.figures[name]), int(after.figures[name])
        lines += [f"{name.capitalize()}: {old}, then {new} ({new - old:+d})."] if old + new else []
    for name in after.figures:
        if re.fullmatch(r"gate, fold [^:]+|lift, [^:]+", name):
            old_text = before.figures.get(name, "not there")
            same = old_text == after.figures[name]
            text = f"{after.figures[name]}, as before" if same else (
                f"{old_text}, then {after.figures[name]}"
            )  # fmt: skip
            lines.append(f"{name.capitalize()}: {text}.")
    lines.append(f"Params: {changed} changed." if changed else "Params: none changed.")
    return lines


def affected_versions(subject: str) -> tuple[str, list[tuple[str, str, str]], list[str]]:
    """Find the versions that a patient went into.

    Args:
        subject: a pseudonym, or the patient's ID, which this clone's key turns into one.

    Returns:
        The pseudonym; rows of version, role, and whether it was recalled; and warnings about
        versions that cannot be read.
    """
    pseudonym = to_pseudonym(subject)
    warning = update_tags()
    rows, problems = [], [warning] if warning else []
    for version in list_versions():
        try:
            partitions = read_record(version.name).partitions
        except InputError as error:
            problems.append(f"{version.name} cannot be read, the patient may be in it: {error}")
            continue
        roles = [
            f"{ROLES[partition_of[pseudonym]]} (fold {fold})"
            for fold, partition_of in partitions.items()
            if pseudonym in partition_of
        ]
        if roles:
            rows.append((version.name, "; ".join(roles), "recalled" * (version.recall is not None)))
    return pseudonym, rows, problems


def to_pseudonym(subject: str) -> str:
    """Turn a patient's ID into the pseudonym, unless it is one already.

    Raises:
        InputError: the key here is not that of `params.yaml`.
    """
    if PSEUDONYM.fullmatch(subject):
        return subject
    if PSEUDONYM.fullmatch(f"sub-{subject}"):
        return f"sub-{subject}"
    from tasks.ingest.privacy.pseudonyms import Pseudonyms, load_key

    return Pseudonyms(load_key(str(params.read_key("ingest.key_fingerprint")))).subject(subject)


def recall_version(version: str, reason: str) -> list[str]:
    """Mark a version as recalled, so that `fetch` refuses it; return what was done.

    Raises:
        InputError: no such version, or it is recalled already.
    """
    import gto.api
    from gto.exceptions import GTOException

    update_tags()
    found: ReleasedVersion = find_version(version)
    if found.recall is not None:
        raise InputError(f"{version} is recalled already: {one_line(found.recall)}")
    if not reason.isprintable() or not reason.strip():
        raise InputError("--reason is empty or holds characters that cannot be seen")
    try:
        gto.api.deregister(repo=".", name=ARTIFACT, version=version, message=reason)
    except (GTOException, OSError) as error:
        raise InputError(f"GTO cannot withdraw {version}: {one_line(str(error))}") from None
    return [
        f"{version} is recalled: {reason}",
        f"next: git push origin '{withdrawal_tag(version)}', so that every clone refuses it",
        "copies that were fetched before, and `dvc get`, are not reached: tell who has them, and"
        " delete its files from the DVC remote with `dvc gc` where they must go",
    ]
