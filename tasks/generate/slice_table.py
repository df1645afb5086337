"""Read `slices.csv` of an image folder: its cells as text, its rows joined to slices, its ids.

Everything is read as text. A reader that takes ids for numbers turns 001 into 1 and 1001 into
1001.0, and then misses a patient who is both in the real and in the synthetic folder.
"""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pandas as pd

from tasks.stage.errors import InputError

FILE_COLUMN = "file"
FILE_COLUMNS = (
    FILE_COLUMN,
    "filename",
    "image",
    "name",
)  # older tables of `auglift generate`: name
ROW_COLUMN = "row"
REMEDY = "add a column file with the name of each slice's file"


def read_slice_table(path: Path) -> pd.DataFrame | None:
    """Read the table as text, with lower-case column names; None without a file.

    Commas, semicolons or tabs may separate its cells.

    Raises:
        InputError: when the file is no such table.
    """
    if not path.exists():
        return None
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (UnicodeDecodeError, OSError):
        raise InputError(
            f"{path} is no readable table; expected CSV in UTF-8 with a header"
        ) from None
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except csv.Error:
        raise InputError(f"{path} is no readable table; expected CSV with a header") from None
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        raise InputError(f"{path} is no readable table; expected CSV with a header, found nothing")
    names = [name.casefold() for name in rows[0]]
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InputError(f"{path} has the column {repeated[0]!r} twice; remove one")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise InputError(
                f"{path}: row {number} has {len(row)} cells, its header {len(names)}; expected a"
                " cell a column"
            )
    return pd.DataFrame(rows[1:], columns=names, dtype="str")


def join_to_arrays(table: pd.DataFrame, n: int, path: Path) -> tuple[pd.DataFrame, str]:
    """Order rows as an array's slices: by the column `row` where there is one.

    Returns:
        The table, and how its rows were joined, in words.
    """
    check_row_count(table, n, path)
    if ROW_COLUMN not in table:
        return table, "in the order of the array"
    try:
        positions = [int(plain_id(cell)) for cell in table[ROW_COLUMN]]
    except ValueError:
        positions = []
    if sorted(positions) != list(range(n)):
        raise InputError(
            f"{path}: the column row must hold each number from 0 to {n - 1} once; mend it, or"
            " remove it when the rows are in the order of the array"
        )
    ordered = table.set_axis(positions).sort_index()
    return ordered.reset_index(drop=True), "by the column row"


def join_to_files(
    table: pd.DataFrame, names: Sequence[str], path: Path
) -> tuple[pd.DataFrame, str]:
    """Order rows as the files `names`: by file name, or in row order where it is unambiguous.

    Raises:
        InputError: when a file has no row or two, a row no file, or the order is ambiguous.
    """
    column = file_column(table, names)
    if column is None:
        check_row_count(table, len(names), path)
        natural = sorted(names, key=natural_sort_key)
        if natural != sorted(names) and len(table.drop_duplicates()) > 1:
            pair = next(
                pair for pair in zip(sorted(names), natural, strict=True) if len({*pair}) > 1
            )
            raise InputError(
                f"{path} names no files, and these can be ordered as text ({pair[0]} before"
                f" {pair[1]}) or by number; {REMEDY}"
            )
        return table, "in the order of the file names, for want of a column file"
    positions = match_files(table[column].tolist(), names, path)
    check_row_count(table, len(names), path)
    ordered = table.set_axis(positions).sort_index()
    return ordered.reset_index(drop=True), f"by the column {column}"


def file_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """Return the column that names files; one not titled `file` counts only if its cells do so."""
    if FILE_COLUMN in table:
        return FILE_COLUMN
    stems = {file_stem(name) for name in names}
    for column in FILE_COLUMNS:
        if column in table and any(file_stem(cell) in stems for cell in table[column]):
            return column
    return None


def match_files(cells: Sequence[str], names: Sequence[str], path: Path) -> list[int]:
    """Return the position in `names` of each cell's file: by name, else without folder and ending.

    Raises:
        InputError: when a cell matches no file or several, or two cells match the same file.
    """
    exact = {name: position for position, name in enumerate(names)}
    by_stem: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        by_stem.setdefault(file_stem(name), []).append(position)
    result = []
    for cell in cells:
        positions = [exact[cell]] if cell in exact else by_stem.get(file_stem(cell), [])
        if len(positions) != 1:
            many = f"{len(positions)} files" if positions else "no image"
            raise InputError(f"{path} names {cell!r}, which is {many} in this folder; correct it")
        result.append(positions[0])
    twice = [names[position] for position, times in Counter(result).items() if times > 1]
    if twice:
        raise InputError(f"{path} has several rows for {twice[0]}; expected one a slice")
    return result


def check_row_count(table: pd.DataFrame, n: int, path: Path) -> None:
    """Reject a table of another length."""
    if len(table) != n:
        raise InputError(f"{path} has {len(table)} rows for {n} slices; expected a row a slice")


def file_stem(name: str) -> str:
    """Return a file's name in lower case, without folders and image extensions."""
    base = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1].casefold()
    return re.sub(r"\.(nii\.gz|nii|png|jpe?g)$", "", base)


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key with 2 before 10 and a before B, as file managers sort."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def parse_labels(table: pd.DataFrame, path: Path) -> list[int]:
    """Parse the column `label`: 1 tumour, 0 none, -1 unknown.

    Raises:
        InputError: when it holds anything else.
    """
    result = []
    for cell in table["label"]:
        plain = plain_id(cell)
        if plain not in ("-1", "0", "1"):
            values = sorted({plain_id(other) for other in table["label"]})[:4]
            raise InputError(
                f"{path}: labels [{', '.join(values)}]; expected 1 tumour, 0 none, -1 unknown"
            )
        result.append(int(plain))
    return result


def parse_subjects(table: pd.DataFrame, path: Path) -> list[str]:
    """Parse the column `subject` as text; whole numbers lose their `.0`.

    Raises:
        InputError: when a row has no subject.
    """
    subjects = [plain_id(cell) for cell in table["subject"]]
    empty = sum(
        not subject or subject.casefold() in ("nan", "none", "null") for subject in subjects
    )
    if empty:
        raise InputError(
            f"{path} has {empty} rows without a subject; name the patient of each slice, or remove"
            " the column"
        )
    return subjects


def plain_id(cell: str) -> str:
    """Return an id as a person would write it: a whole number from a table loses its `.0`."""
    text = unicodedata.normalize("NFKC", cell).strip()
    if re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        return text.partition(".")[0]
    if re.fullmatch(r"[+-]?\d+(\.\d+)?[eE]\+?\d{1,3}", text):
        number = Decimal(text)
        return str(int(number)) if number == int(number) else text
    return text


def comparable_id(subject: str) -> str:
    """Return the form that two spellings of one patient's id share.

    It has no case, no BIDS `sub-`, no separators, and no zeros before a number: 001 is 1, sub-P07
    is p7.
    """
    text = plain_id(subject).casefold().removeprefix("sub-")
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)
