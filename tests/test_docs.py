"""The pages for developers name modules that exist."""

import re
from pathlib import Path

import pytest

from tests.imports import ROOT

PAGES = ("docs/architecture.md", "docs/contributing.md", "README.md")
# Below these a page may shorten a path: `dicom/header` is `tasks/ingest/dicom/header.py`.
PARENTS = ("", "tasks", "tasks/ingest", "tasks/train_gan", "tasks/gate", "tests", "docs")
PLACEHOLDERS = re.compile(r"[A-Z]{3,}|\*|data/|\.private|params\.yaml")


def paths_in(page: Path) -> list[str]:
    """All code spans of a page that are paths in the repository, `{a,b}` unfolded."""
    spans = re.findall(r"`([\w./{},]+/[\w./{},]*)`", page.read_text())
    paths = []
    for span in spans:
        if PLACEHOLDERS.search(span):
            continue
        before, _, rest = span.partition("{")
        inside, _, after = rest.partition("}")
        paths += [before + part + after for part in inside.split(",")]
    return paths


def exists(path: str) -> bool:
    names = (path, f"{path}.py")
    return any((ROOT / parent / name).exists() for parent in PARENTS for name in names)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_paths_that_exist(page: str) -> None:
    missing = sorted({path for path in paths_in(ROOT / page) if not exists(path)})
    assert not missing, f"{page} names {missing}"


def test_the_check_finds_paths() -> None:
    assert len(paths_in(ROOT / "docs/architecture.md")) > 40
    assert not exists("tasks/ingest/roll.py")


def test_contributing_names_symbols_that_exist() -> None:
    page = (ROOT / "docs/contributing.md").read_text()
    symbols = set(re.findall(r"`([A-Z]\w{3,}|[a-z]+_[a-z_]+)`", page)) - {"NAME", "SECTION"}
    code = "\n".join(
        path.read_text() for folder in ("tasks", "tests") for path in (ROOT / folder).rglob("*.py")
    )
    assert len(symbols) > 10
    assert not [symbol for symbol in symbols if not re.search(rf"\b{symbol}\b", code)]
