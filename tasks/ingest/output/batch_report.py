"""Record what became of every file: paths go to `.private/` at once, rows and counts are kept."""

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
from tasks.ingest.privacy.private_files import open_private_table
from tasks.ingest.privacy.pseudonyms import Pseudonyms


@dataclass
class BatchReport:
    """Rows of the output tables as text, and counts; a file leaves nothing else in memory.

    `write_file` and `write_rejected` append to the tables in `.private/`.
    """

    pseudonyms: Pseudonyms
    write_file: Callable[[Sequence[str]], object]
    write_rejected: Callable[[Sequence[str]], object]
    volumes: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    subjects: set[str] = field(default_factory=set)
    files: int = 0
    masks: int = 0
    all_known: bool = True

    def reject(self, rejections: Iterable[Rejection]) -> None:
        """Record one row a rejected file or series, under the token of its first file."""
        for rejection in rejections:
            token = self.pseudonyms.file_token(rejection.sources[0].name)
            row = {"token": token, "code": rejection.code, "reason": rejection.reason}
            self.rejected.append(
                write_tables.rejected_line(row | {"remedy": REMEDIES[rejection.code]})
            )
            self.codes[rejection.code] += 1
            for source in rejection.sources:
                self.write_rejected((token, source.name, rejection.code))
                self._record_file(source.name, "rejected")

    def record_outcome(self, sources: Iterable[Source], outcome: str) -> None:
        """Record files that were neither rejected nor converted, such as tables."""
        for source in sources:
            self._record_file(source.name, outcome)

    def add_patient(self, result: PatientResult) -> None:
        """Record the rows, files and rejections of a converted patient."""
        for row in result.rows:
            self.volumes.append(write_tables.manifest_line(row))
            self.subjects.add(row["subject"])
            self.masks += row["mask"] is not None
            self.all_known &= row["patient_known"]
        for name, outcome in result.used:
            self._record_file(name, outcome)
        self.reject(result.rejected)

    def facts(self) -> dict[str, Any]:
        """Return what may be published of a batch: counts, and whether the key is public."""
        return {
            "patients": len(self.subjects),
            "volumes": len(self.volumes),
            "masks": self.masks,
            "files": self.files,
            "rejected": dict(sorted(self.codes.items())),
            "patients_known": self.all_known,
            "public_key": self.pseudonyms.public,
        }

    def summary(self) -> str:
        """Return the counts for the log, without names."""
        return (
            f"{len(self.subjects)} patients, {len(self.volumes)} volumes, {self.masks} with a mask,"
            f" {len(self.rejected)} refused"
        )

    def _record_file(self, name: str, outcome: str) -> None:
        """Record the one outcome of a file."""
        self.write_file((name, outcome))
        self.files += 1


@contextmanager
def open_report(batch: str, pseudonyms: Pseudonyms) -> Iterator[BatchReport]:
    """Open a report that writes `rejected-BATCH.csv` and `files-BATCH.csv` into `.private/`."""
    with (
        open_private_table(f"files-{batch}.csv", ("path", "outcome")) as write_file,
        open_private_table(f"rejected-{batch}.csv", ("token", "path", "code")) as write_rejected,
    ):
        yield BatchReport(pseudonyms, write_file, write_rejected)


def no_volume_message(folder: Path, batch: str, report: BatchReport) -> str:
    """Return one line for a batch of which no volume could be read."""
    if not report.codes:
        return (
            f"{folder} holds no image; put DICOM, NIfTI or pictures there, or take the batch out of"
            " data.batches"
        )
    counts = ", ".join(f"{count} {code}" for code, count in sorted(report.codes.items()))
    commonest = report.codes.most_common(1)[0][0]
    return (
        f"{folder}: no volume could be read ({counts}); for {commonest}: {REMEDIES[commonest]};"
        f" .private/rejected-{batch}.csv names the files"
    )
