"""Count patients for the tables of data card and report, so that no table tells a small count.

The tables are of the same patients, so they are protected together: what one hides must follow from
no other, nor from the same table of another fold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from tasks.common.small_cells import HIDDEN, KnownSum, hide_counts, is_small, known_total
from tasks.schemas.metrics import GateMetrics

PARTITIONS: Final = ("train", "val", "test")
KINDS: Final = ("tumour", "unknown", "without")  # of patients, by their slices
ATTACKED: Final = ("train", "val")
UNLISTED: Final = ("site not drawn", "site total", "left out")  # in no table
Counts = dict[Any, int]


@dataclass(frozen=True)
class CohortCounts:
    """Counts of patients as texts: a number, `<SMALLEST`, or `not shown`."""

    texts: Mapping[Any, str]

    def patients(self, fold: str, partition: str) -> str:
        """Return how many patients a partition has."""
        return self.texts["patients", fold, partition]

    def not_drawn(self, fold: str) -> str:
        """Return how many patients a fold leaves out."""
        return self.texts["not drawn", fold]

    def of_kind(self, fold: str, partition: str, kind: str) -> str:
        """Return how many patients of a partition are of one of `KINDS`."""
        known = self.patients(fold, partition).isdecimal()
        return self.texts["kind", fold, partition, kind] if known else HIDDEN

    def sites(self, fold: str) -> list[str]:
        """List the sites of a fold's patients."""
        keys = (key for key in self.texts if key[:2] == ("site", fold))
        return [key[2] for key in keys if key[3] == "train"]

    def of_site(self, fold: str, site: str, partition: str) -> str:
        """Return how many patients of a partition are of a site."""
        return self.texts["site", fold, site, partition]

    def hides_site(self, site: str, partitions: list[str], fold: str | None = None) -> bool:
        """Check whether a site's count in any of the partitions is hidden, in a fold or in any."""
        return any(
            not text.isdecimal()
            for key, text in self.texts.items()
            if key[0] == "site"
            and key[2] == site
            and key[3] in partitions
            and fold in (None, key[1])
        )

    @property
    def tested_shown(self) -> bool:
        """Whether the number of test patients may be said; it would tell a hidden one else."""
        tested = [text for key, text in self.texts.items() if key[::2] == ("patients", "test")]
        return all(text.isdecimal() for text in tested)

    @property
    def all_partitions_shown(self) -> bool:
        """Whether no number of patients of a partition, or of those not drawn, is hidden."""
        texts = [text for key, text in self.texts.items() if key[0] in ("patients", "not drawn")]
        return all(text.isdecimal() for text in texts)

    @property
    def tested_with_tumour_shown(self) -> bool:
        """Whether the number of test patients with tumour may be said."""
        folds = [key[1] for key in self.texts if key[::2] == ("patients", "test")]
        return all(self.of_kind(fold, "test", "tumour").isdecimal() for fold in folds)

    def attacked(self, fold: str, attack: str) -> tuple[str, str]:
        """Return how many training and validation patients an attack was made on."""
        members, others = (self.texts["attack", fold, attack, part] for part in ATTACKED)
        return members, others


def count_cohort(
    slices: pd.DataFrame,
    gates: Mapping[str, GateMetrics],
    smallest_cell: int,
    not_drawn: Mapping[str, int] | None = None,
) -> CohortCounts:
    """Count the patients of `slices.parquet` in all folds of `gates`.

    Args:
        slices: the table; what was synthetic at its source is no patient's and not counted.
        gates: the gate's figures by fold, with the attacks.
        smallest_cell: counts of fewer patients are hidden.
        not_drawn: patients whom a fold leaves out; those of the table, if not given.
    """
    if "marked_synthetic" in slices:
        slices = slices[~slices["marked_synthetic"].astype(bool)]
    counts: Counts = {}
    sums: list[KnownSum | None] = []
    unlisted: set[Any] = set()
    hidden: set[Any] = set()
    for fold, gate in gates.items():
        patients = tabulate_patients(slices, fold)
        used = patients[patients["partition"] != "unused"]
        left = (not_drawn or {}).get(fold, len(patients) - len(used))
        partitions, known = partition_counts(used, fold, left, smallest_cell)
        shown = hide_counts(partitions, known, smallest_cell)
        visible = [part for part in PARTITIONS if shown["patients", fold, part].isdecimal()]
        for table, sums_of in (
            (partitions, known),
            kind_counts(used, fold, visible, left, smallest_cell),
            site_counts(used, fold, visible, left, smallest_cell),
            *(attack_counts(gate, fold, name, smallest_cell) for name in gate.membership),
        ):
            shown = hide_counts(table, sums_of, smallest_cell)
            hidden |= {key for key, text in shown.items() if not text.isdecimal()}
            counts |= table
            sums += sums_of
        sums += links(counts, fold, patients, gate, smallest_cell)
        unlisted |= {key for key in counts if key[0] in UNLISTED or key[-1] == "without"}
    texts = hide_counts(
        counts, [each for each in sums if each], smallest_cell,
        unlisted=unlisted, hidden=hidden, whole_range=False,
    )  # fmt: skip
    return CohortCounts(texts)


def tabulate_patients(slices: pd.DataFrame, fold: str) -> pd.DataFrame:
    """Tabulate each patient's partition in a fold, site and kind."""
    marks = pd.DataFrame(
        {
            "subject": slices["subject"],
            "partition": slices[f"partition_{fold}"],
            "site": slices["site"].astype(str) if "site" in slices else "",
            "tumour": slices["label"] == 1,
            "unknown": slices["label"] == -1,
        }
    )
    grouped = marks.groupby("subject", sort=True)
    table = pd.DataFrame(
        {
            "partition": grouped["partition"].agg(
                lambda values: next((v for v in values if v != "unused"), "unused")
            ),
            "site": grouped["site"].first(),
            "tumour": grouped["tumour"].any(),
            "unknown": grouped["unknown"].any(),
        }
    )
    # Patients whose labels are hidden (`slices.unlabelled_patients`) are not without tumour.
    kind = table["unknown"].map({True: "unknown", False: "without"})
    return table.assign(kind=kind.mask(table["tumour"], "tumour"))


def partition_counts(
    used: pd.DataFrame, fold: str, left: int, smallest_cell: int
) -> tuple[Counts, list[KnownSum]]:
    """Count the patients of each partition and those not drawn; all patients are known."""
    keys = [("patients", fold, partition) for partition in PARTITIONS]
    counts: Counts = {key: int((used["partition"] == key[-1]).sum()) for key in keys}
    rest = ("not drawn", fold)
    counts[rest] = left
    lines: list[list[Any]] = [[*keys, rest]]
    if not is_small(left, smallest_cell):
        lines.append(keys)  # another fold may tell their sum
    return counts, known_totals(lines, counts, smallest_cell)


def kind_counts(
    used: pd.DataFrame, fold: str, visible: list[str], left: int, smallest_cell: int
) -> tuple[Counts, list[KnownSum]]:
    """Count the patients of each kind in each partition; those of `visible` ones are known."""
    keys = {kind: [("kind", fold, part, kind) for part in PARTITIONS] for kind in KINDS}
    counts: Counts = {
        key: int(((used["partition"] == key[2]) & (used["kind"] == kind)).sum())
        for kind, row in keys.items()
        for key in row
    }
    return counts, known_margins(keys, counts, visible, left, smallest_cell)


def site_counts(
    used: pd.DataFrame, fold: str, visible: list[str], left: int, smallest_cell: int
) -> tuple[Counts, list[KnownSum]]:
    """Count the patients of each site in each partition; those of `visible` ones are known."""
    sites = sorted(used["site"].unique())
    keys = {site: [("site", fold, site, part) for part in PARTITIONS] for site in sites}
    counts: Counts = {
        key: int(((used["site"] == site) & (used["partition"] == key[3])).sum())
        for site, row in keys.items()
        for key in row
    }
    return counts, known_margins(keys, counts, visible, left, smallest_cell)


def known_margins(
    rows: Mapping[str, list[Any]],
    counts: Counts,
    visible: list[str],
    left: int,
    smallest_cell: int,
) -> list[KnownSum]:
    """Return the totals of rows and of the visible partitions that a reader may know.

    Of rows no total is known that would tell a small one, for all patients are known: neither of a
    row, nor of the `left` patients who are in none.
    """
    totals = {name: sum(counts[key] for key in row) for name, row in rows.items()}
    known = set() if is_small(left, smallest_cell) else shown_totals(totals, smallest_cell)
    lines = [row for name, row in rows.items() if name in known]
    if len(rows) > 1:
        lines += [[row[PARTITIONS.index(part)] for row in rows.values()] for part in visible]
    return known_totals(lines, counts, smallest_cell)


def shown_totals(totals: Counts, smallest_cell: int) -> set[Any]:
    """Return the keys of the totals that may be shown where their sum is known."""
    everyone = known_total(list(totals), totals, smallest_cell)
    texts = hide_counts(totals, [everyone] if everyone else [], smallest_cell)
    return {key for key, text in texts.items() if text.isdecimal()}


def attack_counts(
    gate: GateMetrics, fold: str, name: str, smallest_cell: int
) -> tuple[Counts, list[KnownSum]]:
    """Count the patients that an attack was made on."""
    attack = gate.membership[name]
    keys: list[Any] = [("attack", fold, name, part) for part in ATTACKED]
    counts = dict(zip(keys, (attack.members, attack.non_members), strict=True))
    return counts, known_totals([keys], counts, smallest_cell)


def known_totals(lines: list[list[Any]], counts: Counts, smallest_cell: int) -> list[KnownSum]:
    """Return the totals of lines that a reader may know."""
    sums = (known_total(line, counts, smallest_cell) for line in lines)
    return [each for each in sums if each]


def links(
    counts: Counts, fold: str, patients: pd.DataFrame, gate: GateMetrics, smallest_cell: int
) -> list[KnownSum | None]:
    """Return the sums between a fold's tables; add to the counts what they need besides."""
    sums: list[KnownSum | None] = []
    sites = [key[2] for key in counts if key[:2] == ("site", fold) and key[3] == "train"]
    for part in PARTITIONS:
        whole = {("patients", fold, part): -1}
        sums.append(KnownSum(whole | {("kind", fold, part, kind): 1 for kind in KINDS}))
        sums.append(KnownSum(whole | {("site", fold, site, part): 1 for site in sites}))
    totals: Counts = {("site total", site): int((patients["site"] == site).sum()) for site in sites}
    known = shown_totals(totals, smallest_cell)
    for total in totals:
        site = total[1]
        left = patients[(patients["site"] == site) & (patients["partition"] == "unused")]
        terms: dict[Any, int] = {("site", fold, site, part): 1 for part in PARTITIONS}
        if len(left):
            counts["site not drawn", fold, site] = len(left)
            terms["site not drawn", fold, site] = 1
        if total in known:
            sums.append(KnownSum(terms, totals[total]))
        else:  # nobody knows it, but it is the same in all folds
            counts[total] = totals[total]
            sums.append(KnownSum(terms | {total: -1}))
    for name in gate.membership:
        for part in ATTACKED:
            left_out = ("left out", fold, name, part)
            attacked, whole_part = ("attack", fold, name, part), ("patients", fold, part)
            counts[left_out] = max(counts[whole_part] - counts[attacked], 0)
            if counts[whole_part] >= counts[attacked]:
                sums.append(KnownSum({attacked: 1, left_out: 1, whole_part: -1}))
    return sums
