"""Write `auglift compare`'s page: two runs side by side, self-contained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jinja2

from flows.run_record import (
    RunRecord,
    changed_figures,
    changed_params,
    describe_changes,
    format_number,
)


@dataclass(frozen=True)
class ComparedTask:
    """A task in both runs: the claims, and a row an arm (arm, old, new, change)."""

    name: str
    metric: str
    claims: tuple[str, str]
    rows: list[tuple[str, str, str, str]]


def render_comparison(before: RunRecord, after: RunRecord, smallest_cell: int) -> str:
    """Render the page.

    Args:
        before, after: the two runs.
        smallest_cell: counts of fewer patients are not shown.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("flows"), jinja2.PackageLoader("tasks.report")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = changed_figures(before, after, smallest_cell)
    return environment.get_template("comparison.html.j2").render(
        before=before.name,
        after=after.name,
        headline=headline(before, after),
        sentences=describe_changes(before, after, smallest_cell),
        tasks=list(compared_tasks(before, after)),
        gate=[row for row in figures if row[0].startswith("gate, ")],
        data=[row for row in figures if not row[0].startswith(("gate, ", "lift, "))],
        params=[
            (key.removeprefix("params: "), *values)
            for key, *values in changed_params(before, after)
        ],
    )


def headline(before: RunRecord, after: RunRecord) -> str:
    """Say what became of verdict and claims in one sentence."""
    parts = [change("the gate", verdict(before), verdict(after))]
    for task in dict.fromkeys([*before.lift["claim"], *after.lift["claim"]]):
        claims = [run.lift["claim"].get(task, "not run") for run in (before, after)]
        parts.append(change(task, *claims))
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def change(what: str, old: str, new: str) -> str:
    """Say how a word changed."""
    return f"{what}: {new} in both" if old == new else f"{what}: {old}, then {new}"


def verdict(run: RunRecord) -> str:
    """Return the verdicts of the folds as one word, or as a count of the accepted."""
    words = [gate["verdict"] for gate in run.gates.values()]
    accepted = words.count("accepted")
    if accepted in {0, len(words)}:
        return words[0] if words else "not judged"
    return f"{accepted} of {len(words)} folds accepted"


def compared_tasks(before: RunRecord, after: RunRecord) -> Iterator[ComparedTask]:
    """Yield each task of either run with its arms side by side."""
    for task in dict.fromkeys([*before.lift["tasks"], *after.lift["tasks"]]):
        metrics = [run.lift.get("primary", {}).get(task, "") for run in (before, after)]
        arms = [
            run.lift["tasks"].get(task, {}).get(metric, {})
            for run, metric in zip((before, after), metrics, strict=True)
        ]
        rows = []
        for arm in dict.fromkeys([*arms[0], *arms[1]]):
            old, new = (own.get(arm, {}) for own in arms)
            means = old.get("mean"), new.get("mean")
            comparable = None not in means and metrics[0] == metrics[1]
            difference = f"{means[1] - means[0]:+.3f}" if comparable else "-"
            rows.append((arm, with_interval(old), with_interval(new), difference))
        claims = [run.lift["claim"].get(task, "not run") for run in (before, after)]
        name = " and ".join(dict.fromkeys(filter(None, metrics)))
        yield ComparedTask(task, name, (claims[0], claims[1]), rows)


def with_interval(figures: dict[str, Any]) -> str:
    """Format a mean with its interval, or a dash."""
    if not figures:
        return "-"
    mean, interval = format_number(figures.get("mean")), figures.get("ci95")
    return mean if not interval else f"{mean} ({interval[0]:.3g} to {interval[1]:.3g})"
