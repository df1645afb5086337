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


def imported_at_run_time(path: Path) -> Iterator[str]:
    """Like `imported`, without the imports under `if TYPE_CHECKING:`."""
    waiting: list[ast.AST] = [parse(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_between(folder: str) -> dict[str, set[str]]:
    """The packages and modules directly in a folder, each with the others that it imports."""
    base = ROOT / folder
    prefix = folder.replace("/", ".") + "."
    inside = {path.name for path in base.iterdir() if any(path.glob("*.py"))}
    inside |= {path.stem for path in base.glob("*.py")} - {"__init__"}
    graph: dict[str, set[str]] = {name: set() for name in inside}
    for path in base.rglob("*.py"):
        own = path.relative_to(base).with_suffix("").parts[0]
        for name in imported_at_run_time(path):
            other = name.removeprefix(prefix).partition(".")[0]
            if own in graph and name.startswith(prefix) and other in inside - {own}:
                graph[own].add(other)
    return graph


def packages(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imported(path)}


def files(folder: str) -> list[Path]:
    return sorted(ROOT.joinpath(folder).rglob("*.py"))


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
