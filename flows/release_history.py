"""Compare released versions, find those that a patient went into, and recall one."""

import re
from typing import Final

from flows.release_git import (
    ARTIFACT,
    ReleasedVersion,
    find_version,
    list_versions,
    update_tags,
    withdrawal_tag,
)
from flows.release_versions import one_line
from flows.run_record import (
    RunRecord,
    changed_figures,
    changed_params,
    describe_changes,
    read_record,
)
from tasks import params
from tasks.stage.errors import InputError

PSEUDONYM: Final = re.compile(r"sub-[0-9a-f]{12}")
ROLES: Final = {
    "train": "its slices trained",
    "val": "its slices chose the weights and judged",
    "test": "its volumes tested",
}


def diff_versions(old: str, new: str) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Compare two versions: sentences, and rows (what, old, new) of all that differs.

    Raises:
        InputError: when one is missing or cannot be read.
    """
    before, after = (read_record(find_version(each).name) for each in (old, new))
    rows = [*changed_figures(before, after), *changed_params(before, after)]
    return describe_changes(before, after), rows


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
            record = read_record(version.name)
        except InputError as error:
            problems.append(f"{version.name} cannot be read, the patient may be in it: {error}")
            continue
        roles = [
            f"{ROLES[partition_of[pseudonym]]} (fold {fold})"
            for fold, partition_of in record.partitions.items()
            if pseudonym in partition_of
        ]
        if role := role_in_augmented(record, pseudonym):
            roles.insert(0, role)
        if roles:
            rows.append((version.name, "; ".join(roles), "recalled" * (version.recall is not None)))
    return pseudonym, rows, problems


def role_in_augmented(record: RunRecord, pseudonym: str) -> str | None:
    """Say what an augmented version holds of a patient; None where it holds nothing."""
    if record.params.get("release.contents") != "augmented":
        return None
    chosen = record.params.get("release.fold")
    fold = next(iter(record.partitions)) if chosen is None else str(chosen)
    partition = record.partitions.get(fold, {}).get(pseudonym)
    if partition == "train":
        return "its slices are in the data set"
    return None if partition is None else "its pseudonym is in patients.csv"


def to_pseudonym(subject: str) -> str:
    """Turn a patient's ID into the pseudonym, unless it is one already.

    Raises:
        InputError: it is blank, or the key here is not that of `params.yaml`.
    """
    if not subject.strip():
        raise InputError("SUBJECT is blank; expected a pseudonym (sub-...) or a patient's ID")
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
