"""What became of every file: codes for the tables, true paths for `.private/`, counts to log."""

from collections import Counter
from pathlib import Path
from typing import Any

from tasks.ingest.convert import Converted
from tasks.ingest.found import Rejection
from tasks.ingest.privacy import Pseudonyms, write_private
from tasks.ingest.refusal import REMEDIES


def reject_rows(rejected: list[Rejection], names: Pseudonyms) -> list[dict[str, str]]:
    """One row a refused file or series, under the token of its first file."""
    return [
        {
            "token": names.token(one.sources[0].name),
            "code": one.code,
            "reason": one.reason,
            "remedy": REMEDIES[one.code],
        }
        for one in rejected
    ]


def write_paths(batch: str, total: Converted, names: Pseudonyms) -> None:
    """`.private/rejected-BATCH.csv` and, with the outcome of all files, `files-BATCH.csv`."""
    refused = [
        (names.token(one.sources[0].name), source.name, one.code)
        for one in total.rejected
        for source in one.sources
    ]
    write_private(f"rejected-{batch}.csv", ("token", "path", "code"), sorted(refused))
    used = [*total.used, *((path, "rejected") for _, path, _ in refused)]
    write_private(f"files-{batch}.csv", ("path", "outcome"), sorted(used))


def nothing_read(folder: Path, batch: str, total: Converted) -> str:
    """One line for a batch of which nothing could be read."""
    counts = sorted(Counter(one.code for one in total.rejected).items())
    found = ", ".join(f"{count} {code}" for code, count in counts) or "no files"
    return (
        f"{folder}: no volume could be read ({found}); .private/rejected-{batch}.csv names the"
        " files; add readable DICOM or NIfTI, or take the batch out of data.batches"
    )


def facts(total: Converted, *, public_key: bool) -> dict[str, Any]:
    """What may be told of a batch: counts, and whether anybody can compute its pseudonyms."""
    return {
        "patients": len({row["subject"] for row in total.rows}),
        "volumes": len(total.rows),
        "masks": sum(row["mask"] is not None for row in total.rows),
        "files": len(total.used) + sum(len(one.sources) for one in total.rejected),
        "rejected": dict(sorted(Counter(one.code for one in total.rejected).items())),
        "patients_known": all(row["patient_known"] for row in total.rows),
        "public_key": public_key,
    }


def summary(total: Converted) -> str:
    """Counts for the log; no names."""
    known = facts(total, public_key=False)
    return (
        f"{known['patients']} patients, {known['volumes']} volumes, {known['masks']} with a mask,"
        f" {len(total.rejected)} refused"
    )
