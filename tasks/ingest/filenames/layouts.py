"""Read the table `layouts.toml`: how data sets name patients, visits, contrasts and masks.

`python -m tasks.ingest.filenames.layouts docs/ingest.md` updates the document's list of layouts.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tasks.ingest.core.generated_table import update_documents
from tasks.ingest.core.mr_contrast import Modality

Role = Literal["image", "mask", "other-mask", "skip"]

TABLE = Path(__file__).with_name("layouts.toml")
TABLE_START, TABLE_END = "<!-- layouts: generated -->\n", "<!-- layouts: end -->\n"
ENDING = re.compile(r"\.(nii|nii\.gz|png|jpe?g|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True)
class RoleRule:
    """The role of a layout's files whose path contains `match`; the lowest `rank` is used."""

    match: re.Pattern[str]
    role: Role
    rank: int = 0
    labels: str | None = None  # the layout's own where None; empty where not known


@dataclass(frozen=True)
class Layout:
    """How one data set or tool names its files; `documented` is the source of that description."""

    name: str
    title: str
    documented: str
    pattern: re.Pattern[str]
    labels: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    image2d: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[RoleRule, ...] = ()


@dataclass(frozen=True, slots=True)
class LayoutMatch:
    """What a layout reads from a path; None and empty where it reads nothing."""

    layout: Layout
    groups: Mapping[str, str | None]
    role: Role | None = None
    rank: int = 0
    labels: str | None = None

    def __getitem__(self, group: str) -> str:
        return self.groups.get(group) or ""


@cache
def read_layouts() -> tuple[tuple[Layout, ...], Mapping[str, frozenset[str]]]:
    """Read the layouts in their order, and the word lists."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    layouts = tuple(compile_layout(dict(entry)) for entry in table["layout"])
    words = {name: frozenset(words) for name, words in table["words"].items()}
    return layouts, words


def compile_layout(entry: dict[str, Any]) -> Layout:
    """Compile the patterns of an entry of the table."""
    flags = re.VERBOSE | re.IGNORECASE | re.DOTALL
    rules = tuple(
        RoleRule(**(rule | {"match": re.compile(rule["match"], flags)}))
        for rule in entry.pop("rules", ())
    )
    pattern = re.compile(rf"(?: .* [^A-Za-z0-9] | ^ ) (?: {entry.pop('pattern')} )", flags)
    channels = tuple(entry.pop("channels", ()))
    return Layout(pattern=pattern, rules=rules, channels=channels, **entry)


def word_list(kind: str) -> frozenset[str]:
    """Return a list of words in lower case."""
    return read_layouts()[1][kind]


def strip_format_suffix(name: str) -> str:
    """Return a path as the patterns expect it: archives as folders, without the format's suffix."""
    return ENDING.sub("", name.replace(".zip!/", "/"))


def match_layout(path: str) -> LayoutMatch | None:
    """Match a path without suffix against the layouts; return the first match."""
    for layout in read_layouts()[0]:
        match = layout.pattern.match(path)
        if match is None:
            continue
        groups = match.groupdict()
        groups["case"] = groups.get("case") or groups.get("case2")
        role = layout.roles.get((groups.get("role") or "").lower())
        for rule in layout.rules:
            if rule.match.search(path):
                labels = layout.labels if rule.labels is None else rule.labels or None
                return LayoutMatch(layout, groups, rule.role, rule.rank, labels)
        return LayoutMatch(layout, groups, role, 0, layout.labels)
    return None


def layout_table() -> str:
    """Return all layouts as a Markdown table, in their order."""
    rows = ["| layout | names | documented | mask values |", "|---|---|---|---|"]
    rows += [
        f"| `{layout.name}` | {layout.title} | {layout.documented} | {layout.labels or ''} |"
        for layout in read_layouts()[0]
    ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    update_documents(TABLE_START, TABLE_END, layout_table())
