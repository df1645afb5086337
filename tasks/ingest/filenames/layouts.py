"""The table `layouts.toml`: how data sets name patients, visits, contrasts and masks.

`python -m tasks.ingest.filenames.layouts docs/ingest.md` updates the document's list of layouts.
"""

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tasks.ingest.core.mr_contrast import Modality

Role = Literal["image", "mask", "other-mask", "skip"]

TABLE = Path(__file__).with_name("layouts.toml")
TABLE_START, TABLE_END = "<!-- layouts: generated -->\n", "<!-- layouts: end -->\n"
ENDING = re.compile(r"\.(nii|nii\.gz|png|jpe?g|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """Files of a layout whose path `match` finds have this role; the lowest `rank` is taken."""

    match: re.Pattern[str]
    role: Role
    rank: int = 0
    labels: str | None = None  # the layout's own where None; empty where not known


@dataclass(frozen=True)
class Layout:
    """How one data set or tool names its files; `documented` is where it says so."""

    name: str
    title: str
    documented: str
    pattern: re.Pattern[str]
    labels: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    picture: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """What a layout says of a path; None and empty where it says nothing."""

    layout: Layout
    groups: Mapping[str, str | None]
    role: Role | None = None
    rank: int = 0
    labels: str | None = None

    def __getitem__(self, group: str) -> str:
        return self.groups.get(group) or ""


@cache
def read_table() -> tuple[tuple[Layout, ...], Mapping[str, frozenset[str]]]:
    """The layouts in their order, and the word lists."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    layouts = tuple(as_layout(dict(entry)) for entry in table["layout"])
    words = {name: frozenset(words) for name, words in table["words"].items()}
    return layouts, words


def as_layout(entry: dict[str, Any]) -> Layout:
    """An entry of the table with its patterns compiled."""
    flags = re.VERBOSE | re.IGNORECASE | re.DOTALL
    rules = tuple(
        Rule(**(rule | {"match": re.compile(rule["match"], flags)}))
        for rule in entry.pop("rules", ())
    )
    pattern = re.compile(rf"(?: .* [^A-Za-z0-9] | ^ ) (?: {entry.pop('pattern')} )", flags)
    channels = tuple(entry.pop("channels", ()))
    return Layout(pattern=pattern, rules=rules, channels=channels, **entry)


def words(kind: str) -> frozenset[str]:
    """A list of words in lower case."""
    return read_table()[1][kind]


def without_ending(name: str) -> str:
    """A path as patterns see it: archives are folders, and the file's ending is gone."""
    return ENDING.sub("", name.replace(".zip!/", "/"))


def match_layout(path: str) -> Match | None:
    """The first layout that explains a path without ending."""
    for layout in read_table()[0]:
        found = layout.pattern.match(path)
        if found is None:
            continue
        groups = found.groupdict()
        groups["case"] = groups.get("case") or groups.get("case2")
        role = layout.roles.get((groups.get("role") or "").lower())
        for rule in layout.rules:
            if rule.match.search(path):
                labels = layout.labels if rule.labels is None else rule.labels or None
                return Match(layout, groups, rule.role, rule.rank, labels)
        return Match(layout, groups, role, 0, layout.labels)
    return None


def table_of_layouts() -> str:
    """All layouts as a Markdown table, in their order."""
    rows = ["| layout | names | documented | mask values |", "|---|---|---|---|"]
    rows += [
        f"| `{one.name}` | {one.title} | {one.documented} | {one.labels or ''} |"
        for one in read_table()[0]
    ]
    return "\n".join(rows) + "\n"


def with_table(document: str) -> str:
    """A document with the table of layouts between its two marks replaced by today's."""
    pattern = re.escape(TABLE_START) + ".*?" + re.escape(TABLE_END)
    table = TABLE_START + table_of_layouts() + TABLE_END
    return re.sub(pattern, lambda _: table, document, flags=re.DOTALL)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
