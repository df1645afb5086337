"""Compose the sections of the page and render it with the templates beside this file."""

from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
import yaml

from tasks.common.cohort_counts import CohortCounts
from tasks.common.few_patients import count_tested
from tasks.common.release_candidate import ReleaseCandidate
from tasks.report import charts, measure_table, subgroup_tables, wording
from tasks.report.cohort_tables import PageTable
from tasks.report.headline import StrongestReference, against_strongest
from tasks.report.image_panels import PageImage
from tasks.schemas.lift import ArmFigure, Contrast, Lift
from tasks.schemas.metrics import GateMetrics

UNJUDGED = "unjudged"  # the gate's reason where there was too little to judge the set by


@dataclass(frozen=True)
class MetricLift:
    """One downstream metric: its forest plot, and a table row an arm."""

    meaning: wording.GlossaryEntry
    forest: PageImage
    rows: list[list[str]]


@dataclass(frozen=True)
class TaskLift:
    """One task: the claim in words and its metrics."""

    meaning: wording.GlossaryEntry
    claim: str
    in_short: str
    sentence: str
    reasons: list[str]
    primary: str
    decisive: str
    metrics: list[MetricLift]
    contrasts: list[list[str]]
    strongest: StrongestReference | None
    subgroups: list[PageTable]


@dataclass(frozen=True)
class FoldGate:
    """One fold's measures, each row: meaning, own name, and the figures as text.

    `missing` names what could not be measured, each with its reason.
    """

    fold: str
    verdict: str
    chart: PageImage | None
    rows: list[dict[str, Any]]
    missing: list[tuple[str, str]]
    subgroups: PageTable | None


@dataclass(frozen=True)
class FoldTraining:
    """One fold's generator: its kind, its curves, and a sentence on the checkpoint kept."""

    fold: str
    kind: str
    steps: int
    kept: str
    curves: list[PageImage]


def lift_sections(lift: Lift, smallest_cell: int, cohort: CohortCounts) -> list[TaskLift]:
    """Prepare the lift of every task for the page."""
    tasks = []
    for task, claim in lift.claim.items():
        metrics = [
            metric_lift(
                task,
                name,
                arms,
                [
                    count_tested(figure, lift.n_patients, cohort, smallest_cell)
                    for figure in arms.values()
                ],
            )
            for name, arms in lift.tasks[task].items()
        ]
        primary = wording.metric_entry(lift.primary[task])
        contrasts = lift.contrasts.get(task, [])
        tasks.append(
            TaskLift(
                wording.TASKS.get(task, wording.GlossaryEntry(task, "")),
                claim,
                wording.CLAIMS_IN_SHORT[claim],
                wording.CLAIMS[claim],
                lift.reasons.get(task, []),
                primary.name,
                decisive_contrast(contrasts, claim, primary.name),
                metrics,
                [contrast_row(contrast) for contrast in contrasts],
                against_strongest(task, lift),
                subgroup_tables.lift_subgroups(lift.subgroups.get(task, {}), smallest_cell, cohort),
            )
        )
    return tasks


def decisive_contrast(contrasts: list[Contrast], claim: str, metric: str) -> str:
    """State the comparison that decides the claim, in one sentence.

    A gain must hold against every rival, so an arm counts by its least favourable contrast, and
    the best arm decides; a harm likewise with the signs turned. Empty without a claim.
    """
    if claim == "not measured":
        return ""
    sign = -1 if claim == "harms" else 1
    arms = {contrast.arm for contrast in contrasts}
    worst = [
        min((c for c in contrasts if c.arm == arm), key=lambda c: sign * c.lift)
        for arm in sorted(arms)
    ]
    if not worst:
        return ""
    decisive = max(worst, key=lambda c: sign * c.lift)
    return (
        f"{metric} {wording.format_signed(decisive.lift)} (95 % interval"
        f" {wording.format_interval(decisive.ci95)}) with “{wording.arm_name(decisive.arm)}”"
        f" against “{wording.arm_name(decisive.reference)}”."
    )


def contrast_row(contrast: Contrast) -> list[str]:
    """Make a row of the table that the claim rests on."""
    return [
        wording.arm_name(contrast.arm),
        wording.arm_name(contrast.reference),
        wording.format_signed(contrast.lift),
        wording.format_interval(contrast.ci95),
        wording.format_p_value(contrast.p_adjusted),
    ]


def metric_lift(task: str, name: str, arms: dict[str, ArmFigure], tested: list[str]) -> MetricLift:
    """Make the forest plot of one metric, the same in words, and the table's rows.

    `tested` says for each arm on how many patients its figure rests.
    """
    meaning = wording.metric_entry(name)
    rows, alt_texts = [], []
    for (arm, figures), count in zip(arms.items(), tested, strict=True):
        label = wording.arm_name(arm)
        change, bounds = (
            wording.format_signed(figures.lift_over_real),
            wording.format_interval(figures.lift_ci95),
        )
        if arm == "real":
            change = bounds = ""
        elif figures.lift_over_real is None:
            alt_texts.append(f"{label}: not measured")
        else:
            alt_texts.append(f"{label}: {change} ({bounds})")
        note = "" if figures.status == "ok" else f" ({figures.status})"
        rows.append(
            [
                label + note,
                wording.format_number(figures.mean),
                wording.format_interval(figures.ci95),
                change,
                bounds,
                "" if arm == "real" else wording.format_p_value(figures.p_adjusted),
                count,
            ]
        )
    uri = charts.forest_plot(
        f"{task}-{name}",
        charts.differences_to_real(arms),
        larger_is_better=meaning.larger_is_better,
    )
    alt = f"{meaning.name}, difference to real slices only, 95 % interval: {'; '.join(alt_texts)}"
    return MetricLift(meaning, PageImage(uri, alt, meaning.sentence, 0, 0), rows)


def gate_sections(
    gates: dict[str, GateMetrics], smallest_cell: int, cohort: CohortCounts
) -> list[FoldGate]:
    """Prepare every fold's measures beside their real-versus-real figures and limits."""
    return [fold_gate(fold, metrics, smallest_cell, cohort) for fold, metrics in gates.items()]


def fold_gate(
    fold: str, metrics: GateMetrics, smallest_cell: int, cohort: CohortCounts
) -> FoldGate:
    """Make one fold's chart of ratios and its table."""
    rows = measure_table.measure_rows(metrics.measures)
    chart = None
    if any(measure.ratio is not None for measure in metrics.measures.values()):
        alt_texts = [f"{row['meaning'].name} {row['ratio']} ({row['limit']})" for row in rows]
        alt = f"Ratios to real against real and their limits: {'; '.join(alt_texts)}"
        chart = PageImage(charts.ratio_chart(f"ratios-{fold}", metrics.measures), alt, "", 0, 0)
    missing = [
        (wording.measure_entry(name).name, why) for name, why in metrics.not_measured.items()
    ]
    subgroups = subgroup_tables.gate_subgroups(metrics.subgroups, smallest_cell, cohort, fold)
    return FoldGate(fold, metrics.verdict, chart, rows, missing, subgroups)


def missing_measures(gates: dict[str, GateMetrics]) -> list[str]:
    """List parts of the verdict that were not measured in some fold, and rejected no set."""
    names = [wording.measure_entry(name).name for gate in gates.values() for name in gate.unbounded]
    return list(dict.fromkeys(names))


def uncertain_measures(gates: dict[str, GateMetrics]) -> list[str]:
    """List measures that lie within a standard error of their limit in some fold."""
    names = [wording.measure_entry(name).name for gate in gates.values() for name in gate.uncertain]
    return list(dict.fromkeys(names))


def rejection_reasons(gates: dict[str, GateMetrics]) -> list[tuple[str, str]]:
    """List why folds were rejected: the gate's reason, and the meaning of the measure it names."""
    explained = []
    for fold, metrics in gates.items():
        for reason in metrics.reasons:
            name, _, rest = reason.partition(": ")
            meaning = wording.measure_entry(name)
            known = bool(rest and meaning.sentence)
            where = f"Fold {fold}. " if len(gates) > 1 else ""
            text = f"{where}{meaning.name}: {rest}" if known else f"{where}{reason}"
            explained.append((text, meaning.sentence))
    return explained


def training_section(fold: str, config: dict[str, Any], history: pd.DataFrame) -> FoldTraining:
    """Prepare the curves of one fold's generator; none where it came from elsewhere."""
    kind = str(config.get("kind", "dcgan"))
    if history.empty or "step" not in history:
        return FoldTraining(fold, kind, 0, "", [])
    columns_present = [str(name) for name in history.dropna(axis="columns", how="all").columns]
    charts_of: dict[tuple[str, str], list[str]] = {}
    for start, chart in wording.CURVES.items():
        charts_of.setdefault(chart, []).extend(
            name for name in columns_present if name.startswith(start)
        )
    images = []
    for (title, sentence), columns in charts_of.items():
        if columns:
            uri = charts.training_curves(f"{fold}-{columns[0]}", history, columns, title)
            alt = f"Fold {fold}, {title}, at the end: {latest_values(history, columns)}"
            images.append(PageImage(uri, alt, sentence, 0, 0))
    return FoldTraining(
        fold, kind, int(history["step"].max()), checkpoint_sentence(history), images
    )


def latest_values(history: pd.DataFrame, columns: list[str]) -> str:
    """List the last figures of a chart, as its text alternative."""
    last = history[columns].ffill().iloc[-1]
    return ", ".join(
        f"{wording.series_name(name)} {wording.format_number(float(last[name]))}"
        for name in columns
    )


def checkpoint_sentence(history: pd.DataFrame) -> str:
    """Say which checkpoint was kept, and the trainer's own doubts about it."""
    if "event" not in history:
        return ""
    best = history[history["event"].fillna("").astype(str).str.startswith("best")]
    if best.empty:
        return ""
    doubt = str(best["event"].iloc[-1]).removeprefix("best").lstrip(", ")
    return f"The checkpoint of step {int(best['step'].iloc[-1])} was kept" + (
        f", although it {doubt}." if doubt else "."
    )


def count_slices(candidate: ReleaseCandidate) -> dict[str, int]:
    """Count the slices generated, evaluated one by one, passed, and rejected as copies."""
    samples = candidate.samples
    return {
        "made": len(samples),
        "judged": int((samples["reason"] != UNJUDGED).sum()),
        "passed": int(samples["accepted"].sum()),
        "copies": int((samples["reason"] == "memorised").sum()),
        "passed_tumour": int((samples["accepted"] & (samples["label"] == 1)).sum()),
    }


def parameters_as_yaml(tree: dict[str, Any]) -> str:
    """Format parameters as in `params.yaml`."""
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, allow_unicode=True)


def render_page(**context: Any) -> str:
    """Fill the template. Everything from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = wording.format_number
    return environment.get_template("page.html.j2").render(**context)
