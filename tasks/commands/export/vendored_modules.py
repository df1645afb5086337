"""Copies of the modules that a package for another tool needs, so that it needs nothing of ours.

The modules come to lie side by side in one Python package, and import each other by relative
names: the package works under whatever name, and beside whatever else, a tool loads it.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
FIRST_PARTY = ("models", "tasks")


def copy_modules(entry: Path, folder: Path, *, name: str = "") -> None:
    """Write a module of ours, and all of ours that it imports, to the package `folder`.

    Args:
        entry: the module's file.
        folder: of the package, which gets an `__init__.py`.
        name: the entry's new name, when it is to have another.

    Raises:
        ValueError: when two modules would have one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, Path] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        stem = name if path == entry and name else path.stem
        if places.setdefault(stem, path) != path:
            raise ValueError(f"{path} and {places[stem]} would both be {stem}.py")
        if (folder / f"{stem}.py").exists():
            continue
        text, needed = with_relative_imports(path)
        (folder / f"{stem}.py").write_text(text)
        waiting += needed
    start = folder / "__init__.py"
    if not start.exists():
        start.write_text('"""Copied from auglift; see the README."""\n')


def with_relative_imports(path: Path) -> tuple[str, list[Path]]:
    """A module's text with relative imports in place of ours, and the files of those."""
    lines = path.read_text().splitlines(keepends=True)
    needed = []
    for node in ast.walk(ast.parse("".join(lines))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module.partition(".")[0] not in FIRST_PARTY:
            continue
        folder = ROOT.joinpath(*node.module.split("."))
        if folder.with_suffix(".py").exists():  # from tasks.generate.sample_generator import draw
            needed.append(folder.with_suffix(".py"))
            near = f".{folder.name}"
        else:  # from tasks.release import nifti
            needed += [folder / f"{alias.name}.py" for alias in node.names]
            near = "."
        old = f"from {node.module} import"
        lines[node.lineno - 1] = lines[node.lineno - 1].replace(old, f"from {near} import", 1)
    return "".join(lines), needed
