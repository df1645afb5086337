"""Build a wheel with one package, `auglift`; all else is in pyproject.toml.

The folders `flows`, `tasks` and `models` import each other by these names, which fits a clone.
Beside other packages in site-packages such names collide: `models` is a popular one. So a wheel
holds them as `auglift/flows`, `auglift/tasks` and `auglift/models`, with their imports rewritten.
An editable installation (`pip install -e .`) leaves everything as it is.

An import hook that maps `tasks.x` to `auglift.tasks.x` was the other way. It must decide by the
importing module, since another package may import its own `models`, and Python's finders do not see
that module: it would have to replace `builtins.__import__` for everybody.
"""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PACKAGE = "auglift"
MOVED = ("flows", "tasks", "models")
NAMES = "|".join(MOVED)
# The start of a text that names a module, such as "tasks.gate" or f"tasks.params.{name}".
MODULE_TEXT = re.compile(rf"""^([a-zA-Z]*["'])({NAMES})\.(?=["'{{]|[a-z_]+(?:[.:"'{{]|$))""")


def rewrite_module(path: Path) -> None:
    """Put `auglift.` before the moved packages in the imports of a module, and in its texts.

    Raises:
        ValueError: for `import tasks.x`, whose later uses in the module would have to change too.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # Later places first, so that the earlier ones stay where they are.
    for row, column in sorted(places_to_rewrite(path), reverse=True):
        line = lines[row - 1]
        lines[row - 1] = f"{line[:column]}{PACKAGE}.{line[column:]}"
    path.write_text("".join(lines), encoding="utf-8")


def places_to_rewrite(path: Path) -> Iterator[tuple[int, int]]:
    """Yield row (from 1) and column (from 0) of each name to be put below `auglift`."""
    with path.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    statement: list[str] = []  # the words of the statement so far
    for token in tokens:
        if token.type in {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}:
            statement = [] if token.type != tokenize.NL else statement
            continue
        if token.type == tokenize.NAME and token.string in MOVED:
            if statement == ["from"]:
                yield token.start
            elif statement == ["import"]:
                raise ValueError(f"{path}: write `from ... import` for {token.string}")
        elif token.type == tokenize.STRING and (found := MODULE_TEXT.match(token.string)):
            yield token.start[0], token.start[1] + len(found[1])
        if token.type not in {tokenize.COMMENT, tokenize.ENCODING}:
            statement.append(token.string)
        if token.string in {":", ";"}:
            statement = []


class BuildOnePackage(build_py):
    """Copy the packages below one package, and rewrite their imports."""

    def finalize_options(self) -> None:
        """Name the packages as the wheel holds them."""
        super().finalize_options()
        if self.editable_mode:
            return
        folders = {name: name.replace(".", "/") for name in self.packages}
        folders = {
            f"{PACKAGE}.{name}" if name.partition(".")[0] in MOVED else name: folder
            for name, folder in folders.items()
        }
        self.packages, self.package_dir = list(folders), folders

    def build_module(self, module: str, module_file: str, package: str) -> object:
        """Copy a module, then rewrite it."""
        outfile, copied = super().build_module(module, module_file, package)
        if not self.editable_mode:
            rewrite_module(Path(outfile))
        return outfile, copied


class OnePackageWheel(bdist_wheel):
    """A wheel whose metadata names one package."""

    def write_wheelfile(self, folder: str, *more: object) -> None:
        """Write the metadata, and name the package in it."""
        super().write_wheelfile(folder, *more)
        Path(folder, "top_level.txt").write_text(f"{PACKAGE}\n")


setup(cmdclass={"build_py": BuildOnePackage, "bdist_wheel": OnePackageWheel})
