"""What the repository's modules import, read from their text: nothing is run."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRST_PARTY = {"flows", "tasks", "models", "tests"}


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its head or inside a function."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imported(path)}


def files(room: str) -> list[Path]:
    return sorted(ROOT.joinpath(room).rglob("*.py"))


def reached(start: Iterable[Path]) -> set[Path]:
    """Some files, the first-party files that they import, and so on."""
    seen: set[Path] = set()
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path):
            if name.partition(".")[0] in FIRST_PARTY:
                waiting += modules(name)
    return seen


def modules(name: str) -> Iterator[Path]:
    """The files that importing a dotted name runs: its module and every package around it."""
    words = name.split(".")
    for end in range(1, len(words) + 1):
        base = ROOT.joinpath(*words[:end])
        yield from (p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists())
