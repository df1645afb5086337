"""Read `files.csv`, in which the batch's owner describes files; it wins over names and headers.

The column `path` names files inside the batch: `*` matches a part of a name, `**` crosses folders.
All other columns may be empty: `patient`, `session`, `modality` (T1, T1c, T2, FLAIR, other), `role`
(image, mask, skip), `channel` (the index along the fourth axis of a NIfTI file, a row a channel;
the colour of a 2D image), `slice` (number of a 2D image in its volume), `label` (1 tumour, 0 none).
Where several rows match a file, each column is taken from the first row that fills it.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

from tasks.ingest.core.mr_contrast import Modality
from tasks.ingest.core.scan_record import ScanRecord
from tasks.stage.errors import InputError

FILES_CSV = "files.csv"
COLUMNS = ("path", "patient", "session", "modality", "role", "channel", "slice", "label")
ROLES = ("image", "mask", "skip")
NUMBERS = ("channel", "slice", "label")
OWNER_EVIDENCE = "files.csv"
OWNER_SKIPS = ("skipped", "files.csv says so")  # code and reason


@dataclass(frozen=True, slots=True)
class FilesRow:
    """A row of `files.csv`; None in columns that are empty, `line` is its line number."""

    path: str
    patient: str | None = None
    session: str | None = None
    modality: str | None = None
    role: str | None = None
    channel: int | None = None
    slice: int | None = None
    label: int | None = None
    line: int = 0

    def fill_gaps_from(self, other: "FilesRow") -> "FilesRow":
        """Return this row with its empty columns taken from another."""
        gaps = {
            field.name: getattr(other, field.name)
            for field in fields(self)
            if getattr(self, field.name) is None
        }
        return replace(self, **gaps)


class FilesTable:
    """The rows of a batch's `files.csv`.

    A pickled table holds its folder only: the process that receives it reads the file anew, once.
    """

    def __init__(self, folder: Path, rows: list[FilesRow]) -> None:
        self.folder = folder
        self.rows = rows
        self.used: set[int] = set()
        self._exact: dict[str, list[FilesRow]] = defaultdict(list)
        self._globs: list[tuple[re.Pattern[str], FilesRow]] = []
        for row in rows:
            if "*" in row.path:
                self._globs.append((compile_glob(row.path), row))
            self._exact[row.path].append(row)

    def __reduce__(self) -> tuple[Any, ...]:
        return read_files_table, (self.folder,)

    def __bool__(self) -> bool:
        return bool(self.rows)

    def matching_rows(self, name: str) -> list[FilesRow]:
        """Return the rows that match a file, in the order of the table."""
        rows = list(self._exact.get(name, ()))
        rows += [row for pattern, row in self._globs if pattern.fullmatch(name)]
        self.used.update(row.line for row in rows)
        return sorted(set(rows), key=lambda row: row.line)

    def row_of(self, name: str) -> FilesRow | None:
        """Merge all rows that match a file; None where there are none."""
        return next(iter(self.rows_by_channel(name)), None)

    def rows_by_channel(self, name: str) -> list[FilesRow]:
        """Merge the rows that match a file into one, or one a channel where they name channels."""
        rows = self.matching_rows(name)
        if not rows:
            return []
        general = [row for row in rows if row.channel is None]
        channels = sorted({row.channel for row in rows if row.channel is not None})
        if not channels:
            return [merge_rows(general)]
        return [merge_rows([*(r for r in rows if r.channel == n), *general]) for n in channels]

    def unused_lines(self) -> list[int]:
        """Return the lines that match no file of the batch."""
        return [row.line for row in self.rows if row.line not in self.used]


def merge_rows(rows: list[FilesRow]) -> FilesRow:
    """Merge rows; each column is taken from the first row that fills it."""
    first = rows[0]
    for row in rows[1:]:
        first = first.fill_gaps_from(row)
    return first


def compile_glob(glob: str) -> re.Pattern[str]:
    """Compile a glob: `*` stays inside a name, `**` crosses folders, `**/` may match no folder."""
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts), re.DOTALL)


@cache
def read_cached_table(folder: Path, _stamp: tuple[int, int]) -> FilesTable:
    """Read the table of a batch, once for each state of the file."""
    return FilesTable(folder, list(read_rows(folder / FILES_CSV)))


def read_files_table(folder: Path) -> FilesTable:
    """Read the batch's `files.csv`; the table is empty where there is no such file.

    Raises:
        InputError: a line has other columns or values than the module describes.
    """
    path = folder / FILES_CSV
    if not path.is_file():
        return FilesTable(folder, [])
    status = path.stat()
    return read_cached_table(folder, (status.st_mtime_ns, status.st_size))


def read_rows(path: Path) -> Iterator[FilesRow]:
    """Yield every row of the file, checked.

    Raises:
        InputError: as in `read_files_table`.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        header = [str(name).strip() for name in reader.fieldnames or ()]
        if "path" not in header or not set(header) <= set(COLUMNS):
            raise InputError(
                f"{path}: the first line has {', '.join(header) or 'nothing'};"
                f" expected path and any of {', '.join(COLUMNS[1:])}, separated by commas"
            )
        for record in reader:
            line = reader.line_num
            values = {str(key).strip(): (value or "").strip() for key, value in record.items()
                      if isinstance(value, str) or value is None}  # fmt: skip
            if not any(values.values()):
                continue
            yield parse_row(path, line, values)


def parse_row(path: Path, line: int, values: dict[str, str]) -> FilesRow:
    """Check the values of one line and convert them.

    Raises:
        InputError: as in `read_files_table`.
    """
    if not values.get("path"):
        raise InputError(f"{path}, line {line}: the column path is empty; name a file or a pattern")
    for column, allowed in (("modality", get_args(Modality)), ("role", ROLES)):
        if values.get(column) and values[column] not in allowed:
            raise InputError(
                f"{path}, line {line}: {column} is {values[column]!r}; expected one of"
                f" {', '.join(allowed)}, or nothing"
            )
    numbers: dict[str, int | None] = {}
    for column in NUMBERS:
        text = values.get(column, "")
        if text and not text.isdecimal():
            raise InputError(f"{path}, line {line}: {column} is {text!r}; expected a number")
        numbers[column] = int(text) if text else None
    if numbers["label"] not in (None, 0, 1):
        raise InputError(f"{path}, line {line}: label is {values['label']}; expected 0 or 1")
    texts = {column: values.get(column) or None for column in COLUMNS if column not in NUMBERS}
    return FilesRow(**(texts | {"path": values["path"]}), **numbers, line=line)  # type: ignore[arg-type]


def apply_modality(scan: ScanRecord, modality: str | None) -> ScanRecord:
    """Set the owner's contrast; where it equals the contrast already there, the evidence stays."""
    if modality is None or modality == scan.modality:
        return scan
    return replace(scan, modality=cast(Modality, modality), evidence=OWNER_EVIDENCE)
