"""Summarise a run: the gate's verdict, the lift, and where the results lie."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tasks import params
from tasks.schemas.lift import ArmFigure, Lift
from tasks.schemas.metrics import GateMetrics, read_metrics

STATS = Path("data/slices/stats.json")
GATE = Path("data/gate")
LIFT = Path("data/lift.json")
REPORT = Path("data/report.html")
RELEASE = Path("data/release")
MAY_LEAK = (
    "The split may leak: some slices name no patient, so slices of one patient may lie on both"
    " sides of it, and every figure may be too good."
)


@dataclass(frozen=True)
class Summary:
    """The gate's metrics per fold and the lift, as the stages wrote them."""

    gates: dict[str, GateMetrics]
    lift: Lift | None
    patients_known: bool = True

    @property
    def rejected(self) -> bool:
        """Whether the run is rejected: one rejected fold is enough."""
        return any(gate.verdict == "rejected" for gate in self.gates.values())

    @property
    def line(self) -> str:
        """The verdict in one line, with the warning of a possible leak where it applies."""
        return self._verdict if self.patients_known else f"{self._verdict} {MAY_LEAK}"

    @property
    def _verdict(self) -> str:
        if not self.gates:
            return "The gate has not judged yet."
        accepted = sum(gate.images.accepted for gate in self.gates.values())
        total = sum(gate.images.n for gate in self.gates.values())
        line = f"{accepted} of {total} synthetic slices passed one by one"
        if not self.rejected:
            return f"Accepted: {line}."
        reasons = [
            f"fold {fold}: {'; '.join(gate.reasons) or 'no reason given'}"
            for fold, gate in self.gates.items()
            if gate.verdict == "rejected"
        ]
        return f"Rejected: {' | '.join(reasons)} ({line})."

    @property
    def lifts(self) -> list[tuple[str, str, str, ArmFigure]]:
        """Rows of task, metric, arm and its figures, each task by its primary metric."""
        if self.lift is None:
            return []
        return [
            (task, metric, arm, figures)
            for task, metrics in self.lift.tasks.items()
            for metric, arms in metrics.items()
            if metric == self.lift.primary.get(task, metric)
            for arm, figures in arms.items()
        ]


def judges(addresses: Collection[str]) -> bool:
    """Check whether a gate is among some stages."""
    return any(address.partition("@")[0] == "gate" for address in addresses)


def read_summary(addresses: Collection[str] | None = None) -> Summary:
    """Read the metrics of the listed folds; files that are not written yet are left out.

    Args:
        addresses: Stages; only the gates among them count. None stands for all.
    """
    folds: list[str] = [str(fold) for fold in params.read_key("slices.folds")]
    if addresses is not None and "gate" not in addresses:
        folds = [fold for fold in folds if f"gate@{fold}" in addresses]
    paths = {fold: GATE / fold / "metrics.json" for fold in folds}
    return Summary(
        gates={
            fold: read_metrics(GateMetrics, path) for fold, path in paths.items() if path.exists()
        },
        lift=read_metrics(Lift, LIFT) if LIFT.exists() else None,
        patients_known=not STATS.exists()
        or bool(json.loads(STATS.read_text()).get("patients_known", True)),
    )


def format_summary(summary: Summary) -> str:
    """Format the summary for a terminal: verdict, claims, lift per arm, report and release."""
    lines = [summary.line]
    for fold, gate in summary.gates.items():
        lines += [
            f"fold {fold}: {name}: not measured: {why}" for name, why in gate.unbounded.items()
        ]
    if summary.lift is not None:
        for task, claim in summary.lift.claim.items():
            lines += ["", f"{task}: {claim}"]
            lines += [f"  because {reason}" if claim == "not measured" else f"  but {reason}"
                      for reason in summary.lift.reasons.get(task, [])]  # fmt: skip
            for _, metric, arm, figures in (row for row in summary.lifts if row[0] == task):
                lines.append(f"  {metric} {arm:<26} {format_figures(figures)}")
            for contrast in summary.lift.contrasts.get(task, []):
                change = format_interval(contrast.lift, contrast.ci95)
                lines.append(f"  {contrast.arm} against {contrast.reference}: {change}")
        lines += (
            ["", *(f"note: {note}" for note in summary.lift.notes)] if summary.lift.notes else []
        )
    lines += ["", f"report:  {result_location(REPORT)}", f"release: {result_location(RELEASE)}"]
    return "\n".join(lines)


def format_figures(figures: ArmFigure) -> str:
    """Format an arm's mean, and its lift over `real` with the interval."""
    if figures.mean is None:
        return figures.status
    text = f"{figures.mean:.3f}"
    if figures.lift_over_real is not None and figures.lift_ci95 is not None:
        text += f", lift {format_interval(figures.lift_over_real, figures.lift_ci95)}"
    return text if figures.status == "ok" else f"{text} ({figures.status})"


def format_interval(value: float, ci95: tuple[float, float]) -> str:
    """Format a signed change with its 95 % interval."""
    return f"{value:+.3f} (95 % CI {ci95[0]:+.3f} to {ci95[1]:+.3f})"


def result_location(path: Path) -> str:
    """Return where a result lies, or that it is not written yet."""
    return str(path.resolve()) if path.exists() else f"{path} (not written yet)"
