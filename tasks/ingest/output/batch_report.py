"""What became of every file: true paths go to `.private/` as they come, rows and counts stay."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.ingest.conversion.convert_patient import PatientResult
from tasks.ingest.core.rejection import REMEDIES, Rejection
from tasks.ingest.core.source_file import Source
from tasks.ingest.output import write_tables
from tasks.ingest.privacy.private_files import private_table
from tasks.ingest.privacy.pseudonyms import Pseudonyms


@dataclass
class BatchReport:
    """Rows of the tables to come as text, and what is counted; nothing else is kept of a file."""

    names: Pseudonyms
    write_file: Callable[[Sequence[str]], object]
    write_refused: Callable[[Sequence[str]], object]
    volumes: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    subjects: set[str] = field(default_factory=set)
    files: int = 0
    masks: int = 0
    all_known: bool = True

    def refuse(self, rejections: Iterable[Rejection]) -> None:
        """One row a refused file or series, under the token of its first file."""
        for one in rejections:
            token = self.names.file_token(one.sources[0].name)
            row = {"token": token, "code": one.code, "reason": one.reason}
            self.rejected.append(write_tables.rejected_line(row | {"remedy": REMEDIES[one.code]}))
            self.codes[one.code] += 1
            for source in one.sources:
                self.write_refused((token, source.name, one.code))
                self._close(source.name, "rejected")

    def use(self, sources: Iterable[Source], outcome: str) -> None:
        """Files that were neither refused nor made a patient's volumes."""
        for source in sources:
            self._close(source.name, outcome)

    def enter(self, converted: PatientResult) -> None:
        """What became of a patient."""
        for row in converted.rows:
            self.volumes.append(write_tables.manifest_line(row))
            self.subjects.add(row["subject"])
            self.masks += row["mask"] is not None
            self.all_known &= row["patient_known"]
        for name, outcome in converted.used:
            self._close(name, outcome)
        self.refuse(converted.rejected)

    def facts(self) -> dict[str, Any]:
        """What may be told of a batch: counts, and whether anybody can compute its pseudonyms."""
        return {
            "patients": len(self.subjects),
            "volumes": len(self.volumes),
            "masks": self.masks,
            "files": self.files,
            "rejected": dict(sorted(self.codes.items())),
            "patients_known": self.all_known,
            "public_key": self.names.public,
        }

    def summary(self) -> str:
        """Counts for the log; no names."""
        return (
            f"{len(self.subjects)} patients, {len(self.volumes)} volumes, {self.masks} with a mask,"
            f" {len(self.rejected)} refused"
        )

    def _close(self, name: str, outcome: str) -> None:
        """The one outcome of a file."""
        self.write_file((name, outcome))
        self.files += 1


@contextmanager
def open_report(batch: str, names: Pseudonyms) -> Iterator[BatchReport]:
    """An account that writes `.private/rejected-BATCH.csv` and, of all files, `files-BATCH.csv`."""
    with (
        private_table(f"files-{batch}.csv", ("path", "outcome")) as write_file,
        private_table(f"rejected-{batch}.csv", ("token", "path", "code")) as write_refused,
    ):
        yield BatchReport(names, write_file, write_refused)


def nothing_read(folder: Path, batch: str, account: BatchReport) -> str:
    """One line for a batch of which nothing could be read."""
    if not account.codes:
        return (
            f"{folder} holds no image; put DICOM, NIfTI or pictures there, or take the batch out of"
            " data.batches"
        )
    found = ", ".join(f"{count} {code}" for code, count in sorted(account.codes.items()))
    most = account.codes.most_common(1)[0][0]
    return (
        f"{folder}: no volume could be read ({found}); for {most}: {REMEDIES[most]};"
        f" .private/rejected-{batch}.csv names the files"
    )
