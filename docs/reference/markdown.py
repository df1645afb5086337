"""Write Markdown."""

from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by docs/reference/write_pages.py from the code; change the code. -->\n\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; line breaks and bars in cells are escaped."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Return a text as it may stand in a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def paragraph(text: str | None) -> str:
    """Return a docstring as text: `Attributes:` and the like become a paragraph."""
    return "\n".join(line.strip() for line in (text or "").strip().splitlines())
