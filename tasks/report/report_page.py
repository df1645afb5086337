"""The page itself: what each section says, laid out by the templates beside this file."""

from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
import yaml

from tasks.common.release_candidate import Candidate
from tasks.report import charts, wording
from tasks.report.image_panels import Picture
from tasks.schemas.lift import ArmFigure, Contrast, Lift
from tasks.schemas.metrics import GateMetrics

UNJUDGED = "unjudged"  # the gate's reason where there was too little to judge the set by


@dataclass(frozen=True)
class MetricLift:
    """One downstream metric: its forest plot, and a table row an arm."""

    meaning: wording.GlossaryEntry
    forest: Picture
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


@dataclass(frozen=True)
class FoldGate:
    """One fold's measures, each row: meaning, own name, and the figures as text.

    `missing` names what could not be measured, each with its reason.
    """

    fold: str
    verdict: str
    chart: Picture | None
    rows: list[dict[str, Any]]
    missing: list[tuple[str, str]]


@dataclass(frozen=True)
class FoldTraining:
    """One fold's generator: its kind, its curves, and what happened to the checkpoint kept."""

    fold: str
    kind: str
    steps: int
    kept: str
    curves: list[Picture]


def lift(found: Lift) -> list[TaskLift]:
    """The lift of every task, ready for the page."""
    tasks = []
    for task, claim in found.claim.items():
        metrics = [metric_lift(task, name, arms) for name, arms in found.tasks[task].items()]
        primary = wording.metric(found.primary[task])
        contrasts = found.contrasts.get(task, [])
        tasks.append(
            TaskLift(
                wording.TASKS.get(task, wording.GlossaryEntry(task, "")),
                claim,
                wording.IN_SHORT[claim],
                wording.CLAIMS[claim],
                found.reasons.get(task, []),
                primary.name,
                decisive_contrast(contrasts, claim, primary.name),
                metrics,
                [contrast_row(contrast) for contrast in contrasts],
            )
        )
    return tasks


def decisive_contrast(contrasts: list[Contrast], claim: str, metric: str) -> str:
    """The comparison that the claim stands or falls with, in one sentence.

    A gain must hold against every rival, so an arm is worth its least favourable contrast, and
    the best arm speaks; a harm likewise with the signs turned. Empty without a claim.
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
    one = max(worst, key=lambda c: sign * c.lift)
    return (
        f"{metric} {wording.signed(one.lift)} (95 % interval {wording.interval(one.ci95)}) with"
        f" “{wording.arm(one.arm)}” against “{wording.arm(one.reference)}”."
    )


def contrast_row(contrast: Contrast) -> list[str]:
    """A row of the table that the claim rests on."""
    return [
        wording.arm(contrast.arm),
        wording.arm(contrast.reference),
        wording.signed(contrast.lift),
        wording.interval(contrast.ci95),
        wording.p_value(contrast.p_adjusted),
    ]


def metric_lift(task: str, name: str, arms: dict[str, ArmFigure]) -> MetricLift:
    """The forest plot of one metric, the same in words, and the table's rows."""
    meaning = wording.metric(name)
    rows, said = [], []
    for arm, figures in arms.items():
        label = wording.arm(arm)
        change, bounds = wording.signed(figures.lift_over_real), wording.interval(figures.lift_ci95)
        if arm == "real":
            change = bounds = ""
        elif figures.lift_over_real is None:
            said.append(f"{label}: not measured")
        else:
            said.append(f"{label}: {change} ({bounds})")
        note = "" if figures.status == "ok" else f" ({figures.status})"
        rows.append(
            [
                label + note,
                wording.number(figures.mean),
                wording.interval(figures.ci95),
                change,
                bounds,
                "" if arm == "real" else wording.p_value(figures.p_adjusted),
                str(figures.n_patients),
            ]
        )
    uri = charts.forest(f"{task}-{name}", arms, larger_is_better=meaning.larger_is_better)
    alt = f"{meaning.name}, difference to real slices only, 95 % interval: {'; '.join(said)}"
    return MetricLift(meaning, Picture(uri, alt, meaning.sentence, 0, 0), rows)


def gate(gates: dict[str, GateMetrics]) -> list[FoldGate]:
    """Every fold's measures beside their real-versus-real figures and limits."""
    return [fold_gate(fold, metrics) for fold, metrics in gates.items()]


def fold_gate(fold: str, metrics: GateMetrics) -> FoldGate:
    """One fold's chart of ratios and its table."""
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "meaning": wording.measure(name),
            "value": wording.number(one.value),
            "baseline": wording.number(one.baseline),
            "ratio": wording.number(one.ratio),
            "interval": wording.interval(one.ci95),
            "limit": wording.limit(one.limit),
            "holds": {True: "✓ within", False: "✗ outside", None: ""}[one.holds],
            "n": wording.number(one.n),
            "method": one.method,
        }
        for name, one in metrics.measures.items()
    ]
    chart = None
    if any(one.ratio is not None for one in metrics.measures.values()):
        said = [f"{row['meaning'].name} {row['ratio']} ({row['limit']})" for row in rows]
        alt = f"Ratios to real against real and their limits: {'; '.join(said)}"
        chart = Picture(charts.ratios(f"ratios-{fold}", metrics.measures), alt, "", 0, 0)
    missing = [(wording.measure(name).name, why) for name, why in metrics.not_measured.items()]
    return FoldGate(fold, metrics.verdict, chart, rows, missing)


def missing(gates: dict[str, GateMetrics]) -> list[str]:
    """The parts of the verdict that could not be measured in some fold, and rejected no set."""
    names = [wording.measure(name).name for one in gates.values() for name in one.unbounded]
    return list(dict.fromkeys(names))


def reasons(gates: dict[str, GateMetrics]) -> list[tuple[str, str]]:
    """Why folds were rejected: the gate's own words, and what the measure they name means."""
    found = []
    for fold, metrics in gates.items():
        for reason in metrics.reasons:
            name, _, rest = reason.partition(": ")
            meaning = wording.measure(name)
            known = bool(rest and meaning.sentence)
            where = f"Fold {fold}. " if len(gates) > 1 else ""
            text = f"{where}{meaning.name}: {rest}" if known else f"{where}{reason}"
            found.append((text, meaning.sentence))
    return found


def training(fold: str, config: dict[str, Any], history: pd.DataFrame) -> FoldTraining:
    """The curves of one fold's generator; none where it came from elsewhere."""
    kind = str(config.get("kind", "dcgan"))
    if history.empty or "step" not in history:
        return FoldTraining(fold, kind, 0, "", [])
    known = [str(name) for name in history.dropna(axis="columns", how="all").columns]
    charts_of: dict[tuple[str, str], list[str]] = {}
    for start, chart in wording.CURVES.items():
        charts_of.setdefault(chart, []).extend(name for name in known if name.startswith(start))
    pictures = []
    for (title, sentence), columns in charts_of.items():
        if columns:
            uri = charts.curves(f"{fold}-{columns[0]}", history, columns, title)
            alt = f"Fold {fold}, {title}, at the end: {latest(history, columns)}"
            pictures.append(Picture(uri, alt, sentence, 0, 0))
    return FoldTraining(fold, kind, int(history["step"].max()), kept(history), pictures)


def latest(history: pd.DataFrame, columns: list[str]) -> str:
    """The last figures of a chart, for those who cannot see it."""
    last = history[columns].ffill().iloc[-1]
    return ", ".join(
        f"{wording.series(name)} {wording.number(float(last[name]))}" for name in columns
    )


def kept(history: pd.DataFrame) -> str:
    """Which checkpoint was kept, and the trainer's own doubts about it."""
    if "event" not in history:
        return ""
    best = history[history["event"].fillna("").astype(str).str.startswith("best")]
    if best.empty:
        return ""
    doubt = str(best["event"].iloc[-1]).removeprefix("best").lstrip(", ")
    return f"The checkpoint of step {int(best['step'].iloc[-1])} was kept" + (
        f", although it {doubt}." if doubt else "."
    )


def counts(candidate: Candidate) -> dict[str, int]:
    """How many slices were generated, judged one by one, passed, and were refused as copies."""
    samples = candidate.samples
    return {
        "made": len(samples),
        "judged": int((samples["reason"] != UNJUDGED).sum()),
        "passed": int(samples["accepted"].sum()),
        "copies": int((samples["reason"] == "memorised").sum()),
        "passed_tumour": int((samples["accepted"] & (samples["label"] == 1)).sum()),
    }


def as_text(tree: dict[str, Any]) -> str:
    """Parameters as they stand in `params.yaml`."""
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, allow_unicode=True)


def render(**context: Any) -> str:
    """Fill the template. Everything from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = wording.number
    return environment.get_template("page.html.j2").render(**context)
