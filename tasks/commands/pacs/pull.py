"""Pull scans from a PACS into a new batch: all of it, or nothing that anybody sees.

A pull that ended early is continued by the next one with the same name: it fetches what is missing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

from tasks.commands.pacs import dimse
from tasks.commands.pacs.open_batch import (
    InstanceKey,
    InvalidInstanceError,
    OpenBatch,
    check_batch_name,
    keys_of,
)
from tasks.commands.pacs.sources import Filters, Source, wait_for
from tasks.ingest.privacy.private_files import open_private_table
from tasks.stage.errors import InputError
from tasks.stage.stage_io import file_lock

RAW: Final = Path("data/raw")
FAILURE_COLUMNS: Final = ("study", "series", "instance", "reason")


@dataclass
class PullResult:
    """What a pull did; `failures` holds why each missing instance did not come."""

    target: Path
    matched: int
    here_before: int = 0
    fetched: int = 0
    closed: bool = False
    failures: dict[InstanceKey, str] = field(default_factory=dict)

    @property
    def failure_table(self) -> str:
        """Name of the private table of failures."""
        return f"pacs-{self.target.name}.csv"


def pull(
    source: Source,
    filters: Filters,
    name: str,
    *,
    skip: Iterable[Path] = (),
    retries: int = 3,
    accept_missing: bool = False,
    say: Callable[[str], None] = print,
) -> PullResult:
    """Pull what matches into `data/raw/NAME`, and close the batch when nothing is missing.

    Args:
        source: the PACS.
        filters: what to look for.
        name: of the new batch.
        skip: batches whose instances are not fetched again.
        retries: how often a series is tried again after a lost connection.
        accept_missing: close the batch although something could not be fetched.
        say: prints a line of progress; it gets no UID.

    Raises:
        InputError: no answer, a rejection, nothing that matches, a batch that is there.
    """
    batch = OpenBatch(RAW / check_batch_name(name))
    lock = Path(".locks") / f"pacs-{name}"
    with file_lock(lock, f"another pull writes the batch {name}; wait for it, then pull again"):
        found = dimse.retry(lambda: source.find(filters), retries=retries)
        known = {key for folder in skip for key in keys_of(folder)}
        keys = sorted({key for key in found if key.valid} - known)
        unusable = {key for key in found if not key.valid}
        if not keys and not unusable:
            more = f" but the {len(set(found))} of the batches to leave out" if found else ""
            raise InputError(f"nothing in the PACS matches{more}; no batch was made")
        result = PullResult(batch.target, len(keys) + len(unusable))
        if batch.target.exists():
            return compare_with_closed(result, keys)
        missing = [key for key in keys if not key.path_in(batch.folder).exists()]
        result.here_before = len(keys) - len(missing)
        discard_foreign(batch, set(keys))
        in_part = {(key.study, key.series) for key in set(found) & known}
        with source.ready(partial(batch.save, begin=partial(refuse_foreign, set(keys)))):
            fetch_missing(source, batch, keys, result, in_part, retries=retries, say=say)
        result.fetched = len(missing) - len(result.failures)
        result.failures |= dict.fromkeys(unusable, "the PACS gives it no usable UID")
        write_failures(result)
        if not result.failures or (accept_missing and len(result.failures) < result.matched):
            batch.close()
            result.closed = True
    return result


def compare_with_closed(result: PullResult, keys: list[InstanceKey]) -> PullResult:
    """Return that nothing is to do where a closed batch holds all that matches.

    Raises:
        InputError: something is missing in it, which a new batch may bring.
    """
    there = keys_of(result.target)
    missing = len(set(keys) - there)
    if missing:
        raise InputError(
            f"{result.target} exists, and a batch is never changed: the PACS has {missing}"
            f" instances that it lacks; pull them into another one, with --except"
            f" {result.target.name}"
        )
    result.here_before, result.closed = len(keys), True
    return result


def discard_foreign(batch: OpenBatch, keys: set[InstanceKey]) -> None:
    """Remove what an earlier pull of this name brought and this one does not ask for."""
    for key in batch.keys() - keys:
        key.path_in(batch.folder).unlink()


def refuse_foreign(keys: set[InstanceKey], key: InstanceKey) -> None:
    """Keep out what was not asked for, whoever sends it.

    Raises:
        InvalidInstanceError: the instance is not among those to fetch.
    """
    if key not in keys:
        raise InvalidInstanceError("an instance that was not asked for")


def fetch_missing(
    source: Source,
    batch: OpenBatch,
    keys: list[InstanceKey],
    result: PullResult,
    in_part: set[tuple[str, str]],
    *,
    retries: int,
    say: Callable[[str], None],
) -> None:
    """Fetch series by series; after a lost connection, what is still missing of it.

    The series `in_part` have instances to leave out: they are not fetched as a whole.
    """

    def here(key: InstanceKey) -> bool:
        return key.path_in(batch.folder).exists()

    groups = [list(group) for _, group in groupby(keys, key=lambda key: (key.study, key.series))]
    for number, series in enumerate(groups, 1):
        if all(map(here, series)):
            continue
        singly = (series[0].study, series[0].series) in in_part
        problem = fetch_series(source, series, here, retries=retries, singly=singly)
        missing = [key for key in series if not here(key)]
        for key in missing:
            result.failures[key] = problem or "the PACS did not send it"
        done = len(series) - len(missing)
        say(f"series {number} of {len(groups)}: {done} of {len(series)} instances")


def fetch_series(
    source: Source,
    series: list[InstanceKey],
    here: Callable[[InstanceKey], bool],
    *,
    retries: int,
    singly: bool = False,
) -> str | None:
    """Fetch what is missing of a series: at first all at once (not `singly`), then one by one.

    Returns what went wrong last, in words; one instance that cannot be sent keeps back no other.
    """

    def fetch(*, singly: bool) -> str | None:
        missing = [key for key in series if not here(key)]
        if not missing:
            return None
        whole = len(missing) == len(series) and not singly
        return source.fetch(missing, whole=whole)

    problem: str | None = None
    for one_by_one in (singly, True):
        try:
            problem = dimse.retry(partial(fetch, singly=one_by_one), retries=retries)
            if problem is None:
                wait_for(series, here, most_s=source.late_s)
        except dimse.LostConnectionError as error:
            return str(error)
        except InputError as error:
            problem = str(error)
        if all(map(here, series)):
            return None
    return problem


def write_failures(result: PullResult) -> None:
    """Write `.private/pacs-BATCH.csv`: a row for each instance that did not come."""
    if not result.failures:
        (Path(".private") / result.failure_table).unlink(missing_ok=True)
        return
    with open_private_table(result.failure_table, FAILURE_COLUMNS) as write:
        for key, reason in sorted(result.failures.items()):
            write((key.study, key.series, key.instance, reason))
