"""The documentation site builds without a warning, its links lead somewhere, and it is alone."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.reference.write_pages import rendered_pages
from tests.imports import ROOT


class Page(HTMLParser):
    """The links, the anchors, and the files that a page loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if "src" in values:
            self.loaded.add(values["src"])
        if tag == "link" and values.get("rel") not in {"canonical", "prev", "next"}:
            self.loaded.add(values.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_link_leads_to_a_page_and_an_anchor(site: Path, pages: dict[Path, Page]) -> None:
    followed, broken = 0, []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the root of a server
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in {"http", "https", "mailto"}:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            known = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert followed > 500
    assert not broken


def test_no_page_loads_anything_of_another_server(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        foreign = [each for each in page.loaded if re.match(r"(?:[a-z]+:)?//", each)]
        assert not foreign, f"{path.relative_to(site)} loads {foreign}"
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", path.read_text())


def test_every_page_can_be_reached_by_the_navigation(site: Path, pages: dict[Path, Page]) -> None:
    reached = {urlsplit(link).path for link in pages[site / "index.html"].links}
    own = {str(path.relative_to(site)) for path in pages} - {"404.html"}
    assert own <= reached, f"mkdocs.yml lacks {sorted(own - reached)} in nav"


def test_the_generated_pages_are_those_of_the_code() -> None:
    stale = [path.name for path, text in rendered_pages().items() if path.read_text() != text]
    assert not stale, "run `make docs`"
