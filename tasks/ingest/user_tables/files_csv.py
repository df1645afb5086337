"""`files.csv`: the batch owner's word on every file, which wins over names and headers.

Columns `path` (inside the batch; `*` stands for a part of a name, `**` for folders too), and, each
of them empty where the owner says nothing: `patient`, `session`, `modality` (T1, T1c, T2, FLAIR,
other), `role` (image, mask, skip), `channel` (its number along the fourth axis of a NIfTI file, a
row a channel; the colour of a picture), `slice` (number of a picture in its volume), `label` (1
tumour, 0 none). Of several rows for a file, each column is taken from the first that fills it.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from tasks.ingest.core.mr_contrast import Modality
from tasks.stage.errors import InputError

NAME = "files.csv"
COLUMNS = ("path", "patient", "session", "modality", "role", "channel", "slice", "label")
ROLES = ("image", "mask", "skip")
NUMBERS = ("channel", "slice", "label")
EVIDENCE = "files.csv"


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says; None where it says nothing."""

    path: str
    patient: str | None = None
    session: str | None = None
    modality: str | None = None
    role: str | None = None
    channel: int | None = None
    slice: int | None = None
    label: int | None = None
    line: int = 0

    def filled_by(self, other: "Row") -> "Row":
        """This row, its gaps filled from another."""
        gaps = {
            field.name: getattr(other, field.name)
            for field in fields(self)
            if getattr(self, field.name) is None
        }
        return replace(self, **gaps)


class FilesTable:
    """The rows of a batch's `files.csv`. A process that it is sent to reads the file anew, once."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.folder = folder
        self.rows = rows
        self.used: set[int] = set()
        self._exact: dict[str, list[Row]] = defaultdict(list)
        self._globs: list[tuple[re.Pattern[str], Row]] = []
        for row in rows:
            if "*" in row.path:
                self._globs.append((as_pattern(row.path), row))
            self._exact[row.path].append(row)

    def __reduce__(self) -> tuple[Any, ...]:
        return read_files_table, (self.folder,)

    def __bool__(self) -> bool:
        return bool(self.rows)

    def matching(self, name: str) -> list[Row]:
        """The rows about a file in their order."""
        found = list(self._exact.get(name, ()))
        found += [row for pattern, row in self._globs if pattern.fullmatch(name)]
        self.used.update(row.line for row in found)
        return sorted(set(found), key=lambda row: row.line)

    def says(self, name: str) -> Row | None:
        """All rows about a file as one; None where there are none."""
        return next(iter(self.by_channel(name)), None)

    def by_channel(self, name: str) -> list[Row]:
        """The rows about a file as one, or, where they name channels, as one a channel."""
        rows = self.matching(name)
        if not rows:
            return []
        general = [row for row in rows if row.channel is None]
        channels = sorted({row.channel for row in rows if row.channel is not None})
        if not channels:
            return [merged(general)]
        return [merged([*(r for r in rows if r.channel == n), *general]) for n in channels]

    def unused_lines(self) -> list[int]:
        """Lines that are about no file of the batch."""
        return [row.line for row in self.rows if row.line not in self.used]


def merged(rows: list[Row]) -> Row:
    """Rows as one, the first that fills a column winning."""
    first = rows[0]
    for row in rows[1:]:
        first = first.filled_by(row)
    return first


def as_pattern(glob: str) -> re.Pattern[str]:
    """`*` stays inside a name, `**` crosses folders; `**/` may stand for none."""
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts), re.DOTALL)


@cache
def read_cached(folder: Path, _stamp: tuple[int, int]) -> FilesTable:
    """The table of a batch, read once for each state of the file."""
    return FilesTable(folder, list(read_rows(folder / NAME)))


def read_files_table(folder: Path) -> FilesTable:
    """The batch's table; empty where there is none.

    Raises:
        StageError: a line with other columns or values than above.
    """
    path = folder / NAME
    if not path.is_file():
        return FilesTable(folder, [])
    found = path.stat()
    return read_cached(folder, (found.st_mtime_ns, found.st_size))


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of the file, checked."""
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
            yield as_row(path, line, values)


def as_row(path: Path, line: int, values: dict[str, str]) -> Row:
    """A record as a row."""
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
        word = values.get(column, "")
        if word and not word.isdecimal():
            raise InputError(f"{path}, line {line}: {column} is {word!r}; expected a number")
        numbers[column] = int(word) if word else None
    if numbers["label"] not in (None, 0, 1):
        raise InputError(f"{path}, line {line}: label is {values['label']}; expected 0 or 1")
    texts = {column: values.get(column) or None for column in COLUMNS if column not in NUMBERS}
    return Row(**(texts | {"path": values["path"]}), **numbers, line=line)  # type: ignore[arg-type]
