"""A table in a document that is generated from the code, between two marks."""

import re
import sys
from pathlib import Path


def insert_table(document: str, start: str, end: str, table: str) -> str:
    """Return a document in which `table` stands between the marks `start` and `end`."""
    pattern = re.escape(start) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: start + table + end, document, flags=re.DOTALL)


def update_documents(start: str, end: str, table: str) -> None:
    """Insert `table` into each document that the command line names."""
    for path in map(Path, sys.argv[1:]):
        document = path.read_text(encoding="utf-8")
        path.write_text(insert_table(document, start, end, table), encoding="utf-8")
