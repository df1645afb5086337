"""Tabulate figures of the lift and of the gate for parts of the patients or slices."""

from tasks.common import small_cells
from tasks.common.cohort_counts import CohortCounts
from tasks.report import wording
from tasks.report.cohort_tables import PageTable
from tasks.schemas.lift import Subgroups
from tasks.schemas.metrics import SubgroupRatio

KINDS = {"site": "sites", "tumor_size": "sizes of the tumour"}


def lift_subgroups(
    subgroups: Subgroups, smallest_cell: int, cohort: CohortCounts | None = None
) -> list[PageTable]:
    """Return a table for each kind of subgroup: an arm a row, the figure of each group.

    Groups of fewer patients than `smallest_cell`, and those that would tell their number, are left
    out, also where it is the table of sites (`cohort`) that they would tell of.
    """
    tables: list[PageTable] = []
    if cohort is not None and not cohort.tested_with_tumour_shown:
        return tables
    for kind, groups in subgroups.items():
        sizes = [max((figure.n_patients for figure in arms.values()), default=0)
                 for arms in groups.values()]  # fmt: skip
        counts = [
            count for (count,) in small_cells.show_counts([[n] for n in sizes], smallest_cell)
        ]
        shown = {
            name: (count, arms)
            for (name, arms), count in zip(groups.items(), counts, strict=True)
            if count.isdecimal()
            and count != "0"
            and not (kind == "site" and cohort is not None and cohort.hides_site(name, ["test"]))
        }
        if not shown:
            continue
        arms = list(dict.fromkeys(arm for _, group in shown.values() for arm in group))
        rows = []
        for arm in arms:
            cells = []
            for _, group in shown.values():
                figure = group.get(arm)
                interval = wording.format_interval(figure.ci95) if figure else ""
                mean = wording.format_number(figure.mean if figure else None)
                cells.append(f"{mean} ({interval})" if interval else mean)
            rows.append([wording.arm_name(arm), *cells])
        heads = ["trained on", *(f"{name} (n = {count})" for name, (count, _) in shown.items())]
        title = f"Mean by {KINDS.get(kind, kind)}, 95 % interval; n test patients"
        tables.append(PageTable(title, heads, rows))
    return tables


def gate_subgroups(
    subgroups: dict[str, SubgroupRatio],
    smallest_cell: int,
    cohort: CohortCounts | None = None,
    fold: str = "",
) -> PageTable | None:
    """Return the Fréchet ratio of each label, third of tumour sizes and site; None: none.

    Where a part's number of patients is hidden, so is all else: that there is a ratio, and what the
    warning says, depend on that number.
    """
    rows = []
    for kind in dict.fromkeys(name.partition(" ")[0] for name in subgroups):
        parts = {name: part for name, part in subgroups.items() if name.partition(" ")[0] == kind}
        counts = small_cells.show_counts(
            [[part.patients] for part in parts.values()], smallest_cell
        )
        for (name, part), (count,) in zip(parts.items(), counts, strict=True):
            cells = [wording.format_number(part.ratio), str(part.n), count, part.warning or ""]
            if not count.isdecimal() or (cohort is not None and hides_part(name, cohort, fold)):
                cells = [small_cells.HIDDEN] * 3 + [""]
            rows.append([name, *cells])
    heads = ["part", "Fréchet ratio", "slices", "patients", "warning"]
    return PageTable("Parts of the set", heads, rows) if rows else None


def hides_part(name: str, cohort: CohortCounts, fold: str) -> bool:
    """Check whether the patients of a part of the set would tell of a count that is hidden.

    They are the fewer ones of training and validation, so they bound both, and those with tumour.
    """
    kind, _, rest = name.partition(" ")
    partitions = ("train", "val")
    bounded = [cohort.patients(fold, partition) for partition in partitions]
    if kind == "tumour" or name == "label 1":
        bounded += [cohort.of_kind(fold, partition, "tumour") for partition in partitions]
    if kind == "site" and cohort.hides_site(rest, list(partitions), fold):
        return True
    return not all(text.isdecimal() for text in bounded)
