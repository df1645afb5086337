"""The report of a made-up run, and its page taken apart."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tasks.report import charts
from tasks.report.__main__ import main
from tests.tasks.fake_run import Run, write


class Page(HTMLParser):
    """The page's words, links, pictures and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.words = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if "id" in attributes:
            self.ids.add(attributes["id"] or "")
        if tag == "img":
            self.pictures.append(attributes)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def report(root: Path, *, draw: bool = False, **run: Any) -> tuple[str, Page]:
    """Write a made-up run into `root` and its report, the charts only where they matter."""
    write(root, Run(**run))
    run_stage(root, draw=draw)
    text = (root / "data/report.html").read_text()
    return text, Page(text)


def run_stage(root: Path, *, draw: bool = False) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        if not draw:
            for chart in ("forest_plot", "ratio_chart", "training_curves"):
                patch.setattr(charts, chart, lambda *_, **__: "data:image/svg+xml;base64,")
        main()


def with_stats(root: Path, **changes: object) -> tuple[str, Page]:
    """The report of a run whose slices say more of themselves."""
    write(root, Run(synthetic=6))
    path = root / "data/slices/stats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    run_stage(root)
    text = (root / "data/report.html").read_text()
    return text, Page(text)
