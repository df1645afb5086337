"""The page itself: what each section says, laid out by the templates beside this file."""

from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
import yaml

from tasks.candidate import Candidate
from tasks.report import charts, words
from tasks.report.pictures import Picture
from tasks.tables.metrics import GateMetrics, LiftMetrics


@dataclass(frozen=True)
class MetricLift:
    """One downstream metric: its forest plot, and a table row an arm."""

    meaning: words.Meaning
    forest: Picture
    rows: list[list[str]]


@dataclass(frozen=True)
class TaskLift:
    """One task: the claim in words and its metrics."""

    meaning: words.Meaning
    claim: str
    sentence: str
    metrics: list[MetricLift]


@dataclass(frozen=True)
class FoldGate:
    """One fold's measures, each row: meaning, own name, and the figures as text."""

    fold: str
    verdict: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class FoldTraining:
    """One fold's generator: its kind and its curves."""

    fold: str
    kind: str
    steps: int
    curves: list[Picture]


def lift(metrics: LiftMetrics) -> list[TaskLift]:
    """The lift of every task, ready for the page."""
    found = []
    for task, claim in metrics.claim.items():
        word, sentence = words.CLAIMS[claim]
        tables = metrics.tasks.get(task, {})
        meaning = words.TASKS.get(task, words.Meaning(task, ""))
        plots = [metric_lift(task, name, arms) for name, arms in tables.items()]
        found.append(TaskLift(meaning, word, sentence, plots))
    return found


def metric_lift(task: str, name: str, arms: dict[str, Any]) -> MetricLift:
    """The forest plot of one metric, the same in words, and the table's rows."""
    meaning = words.metric(name)
    rows, said = [], []
    for arm, figures in arms.items():
        label = words.ARMS.get(arm, arm)
        change, bounds = words.signed(figures.lift_over_real), words.interval(figures.lift_ci95)
        short = figures.status not in (None, "ok")
        mean = str(figures.status) if short else words.number(figures.mean)
        if arm == "real":
            change = bounds = "reference"
        elif figures.lift_over_real is None:
            said.append(f"{label}: {figures.status or 'not measured'}")
        else:
            said.append(f"{label}: {change} ({bounds})")
        rows.append(
            [label, mean, words.interval(figures.ci95), change, bounds,
             words.number(figures.p_adjusted)]
        )  # fmt: skip
    uri = charts.forest(
        f"{task}-{name}", arms, larger_is_better=meaning.larger_is_better, labels=words.ARMS
    )
    alt = f"{meaning.name}, difference to real slices only, 95 % interval: {'; '.join(said)}"
    return MetricLift(meaning, Picture(uri, alt, meaning.sentence, 0, 0), rows)


def gate(gates: dict[str, GateMetrics]) -> list[FoldGate]:
    """Every fold's measures beside their real-versus-real figures and limits."""
    return [
        FoldGate(
            fold,
            metrics.verdict,
            [
                {
                    "name": name,
                    "meaning": words.measure(name),
                    "value": words.number(one.value),
                    "baseline": words.number(one.baseline),
                    "ratio": words.number(one.ratio),
                    "interval": words.interval(one.ci95),
                    "limit": words.limit(one.limit),
                    "n": words.number(one.n),
                    "method": one.method,
                }
                for name, one in metrics.measures.items()
            ],
        )
        for fold, metrics in gates.items()
    ]


def training(fold: str, config: dict[str, Any], history: pd.DataFrame) -> FoldTraining:
    """The curves of one fold's generator; none where it came from elsewhere."""
    kind = str(config.get("kind", "dcgan"))
    if history.empty or "step" not in history:
        return FoldTraining(fold, kind, 0, [])
    pictures = []
    for word, title in words.COLUMNS.items():
        known = map(str, history.dropna(axis="columns", how="all").columns)
        columns = [name for name in known if word in name]
        if columns:
            uri = charts.curves(f"{fold}-{word}", history, columns, title.split(":")[0])
            alt = f"Fold {fold}, {title}: {', '.join(columns)} over {len(history)} points"
            pictures.append(Picture(uri, alt, title, 0, 0))
    return FoldTraining(fold, kind, int(history["step"].max()), pictures)


def counts(candidate: Candidate) -> dict[str, int]:
    """How many slices were generated, passed, and were refused as copies."""
    samples = candidate.samples
    return {
        "made": len(samples),
        "passed": int(samples["accepted"].sum()),
        "copies": int((samples["reason"] == "memorised").sum()),
        "passed_tumour": int((samples["accepted"] & (samples["label"] == 1)).sum()),
    }


def as_text(tree: dict[str, Any]) -> str:
    """Parameters as they stand in `params.yaml`."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=72)


def render(**context: Any) -> str:
    """Fill the template. Everything from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(**context)
