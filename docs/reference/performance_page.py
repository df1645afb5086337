"""The page of speed and long experiments: every benchmark, its command, and its measured tables."""

import ast
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INTRODUCTION = """# Performance and benchmarks

Every program of `benchmarks/`, what it measures, its command, and the tables that were measured
with it, copied from the pages where they are discussed. A figure holds for the machine and the
commit named there."""
SECTION = re.compile(r"(?m)^(#{2,4}) (.+)$")
LONG_ROWS = 40  # a longer table is read where it is discussed


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        text = path.read_text()
        words = ast.get_docstring(ast.parse(text)) or ""
        if '__name__ == "__main__"' not in text:
            continue
        parts += [f"## {path.stem}", words.partition("\n")[0]]
        parts.append("\n".join(f"    {line}" for line in commands(words)))
        for page, title, tables in mentions(path.stem):
            parts.append(f"Measured: [{title}]({page}#{anchor(title)}).")
            parts += tables
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def commands(words: str) -> list[str]:
    """Return the command lines of a benchmark's docstring."""
    quoted = re.findall(r"`(python [^`]+)`", words)
    lines = [" ".join(line.split()) for line in words.splitlines() if line.startswith("    ")]
    return lines or [" ".join(each.split()) for each in quoted]


def mentions(name: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the sections of the pages that mention a benchmark: page, title, tables."""
    for page in sorted(DOCS.glob("*.md")):
        if page.name in {"performance.md", "contributing.md"}:
            continue
        text = page.read_text()
        heads = list(SECTION.finditer(text))
        for head, after in zip_longest(heads, heads[1:]):
            body = text[head.end() : after.start() if after else len(text)]
            if re.search(rf"benchmarks[./]{name}\b", body):
                yield page.name, head[2], [relinked(each) for each in tables_of(name, body)]


def tables_of(name: str, body: str) -> Iterator[str]:
    """Yield the tables of a section that a benchmark made: it is the one named last before them."""
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    named = [each for each in re.finditer(r"benchmarks[./](\w+)", body) if each[1] in programs]
    for found in re.finditer(r"(?:^\|.*\|\n?)+", body, flags=re.MULTILINE):
        before = [each for each in named if each.start() < found.start()] or named[:1]
        if before[-1][1] == name and found[0].count("\n") <= LONG_ROWS:
            yield found[0]


def relinked(text: str) -> str:
    """Return a table as it stands on another page of the same folder."""
    return re.sub(r"\]\(#", "](", text)


def anchor(title: str) -> str:
    """Return the anchor of a heading, as GitHub and MkDocs make it."""
    plain = re.sub(r"[^\w\- ]", "", title.lower())
    return re.sub(r" +", "-", plain.strip())
