"""Copy the auglift modules that an exported package uses, so that it runs without auglift.

The copies lie side by side in one Python package and import each other by relative names, so the
package works under any name and beside anything else that a tool loads.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Empty in a clone; `auglift.` in a wheel, which holds all packages below one (see setup.py).
ABOVE = "".join(f"{package}." for package in __name__.split(".")[:-4])
FIRST_PARTY = ("models", "tasks")


def copy_modules(entry: Path, folder: Path, *, name: str = "") -> None:
    """Write a first-party module, and all first-party modules it imports, to the package `folder`.

    Args:
        entry: the module's file.
        folder: of the package, which gets an `__init__.py`.
        name: the entry's new name, when it is to have another.

    Raises:
        ValueError: when two modules would have one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources: dict[str, Path] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        stem = name if path == entry and name else path.stem
        if sources.setdefault(stem, path) != path:
            raise ValueError(f"{path} and {sources[stem]} would both be {stem}.py")
        if (folder / f"{stem}.py").exists():
            continue
        text, imported = with_relative_imports(path)
        (folder / f"{stem}.py").write_text(text)
        waiting += imported
    init = folder / "__init__.py"
    if not init.exists():
        init.write_text('"""Copied from auglift; see the README."""\n')


def with_relative_imports(path: Path) -> tuple[str, list[Path]]:
    """Return a module's text with relative first-party imports, and the files that it imports."""
    lines = path.read_text().splitlines(keepends=True)
    imported = []
    for node in ast.walk(ast.parse("".join(lines))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        module = node.module.removeprefix(ABOVE)
        if module.partition(".")[0] not in FIRST_PARTY:
            continue
        folder = ROOT.joinpath(*module.split("."))
        if folder.with_suffix(".py").exists():  # from tasks.generate.mask_cleanup import clean_mask
            imported.append(folder.with_suffix(".py"))
            package = f".{folder.name}"
        else:  # from tasks.release import nifti_writer
            imported += [folder / f"{alias.name}.py" for alias in node.names]
            package = "."
        old = f"from {node.module} import"
        lines[node.lineno - 1] = lines[node.lineno - 1].replace(old, f"from {package} import", 1)
    return "".join(lines), imported
