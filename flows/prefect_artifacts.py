"""Publish the artifacts of a Prefect run: verdict, lift, sample sheets, a link to the report."""

import base64
from pathlib import Path

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.overrides import Overrides, describe_changes
from flows.report_markdown import report_markdown
from flows.summary import REPORT, Summary, format_figures


def publish_artifacts(summary: Summary) -> None:
    """Publish the run's artifacts; images are data URIs, so that they need no network."""
    create_markdown_artifact(
        verdict_markdown(summary), key="verdict", description="The gate's verdict"
    )
    create_table_artifact(
        [
            {"task": task, "metric": metric, "arm": arm, "figure": format_figures(figures)}
            for task, metric, arm, figures in summary.lifts
        ],
        key="lift",
        description="Each arm against real slices alone, by patient",
    )
    if REPORT.exists():
        create_link_artifact(
            REPORT.resolve().as_uri(), key="report-file", link_text=str(REPORT.resolve()),
            description="The report, for a browser on the machine of the run",
        )  # fmt: skip
        create_markdown_artifact(
            report_markdown(REPORT.read_text()), key="report", description="The report"
        )
    for fold in summary.gates:
        sheets = sorted(Path("data/gan", fold, "sheets").glob("*.png"))
        if sheets:
            encoded = base64.b64encode(sheets[-1].read_bytes()).decode()
            create_image_artifact(
                f"data:image/png;base64,{encoded}",
                key=f"sheet-{fold}",
                description=f"Synthetic slices of fold {fold}",
            )


def publish_overrides(overrides: Overrides) -> None:
    """Publish what the run sets instead of the values in `params.yaml`, if anything."""
    if overrides:
        create_table_artifact(
            describe_changes(overrides),
            key="params",
            description="What this run sets instead of the values in params.yaml",
        )


def verdict_markdown(summary: Summary) -> str:
    """Return the verdict as Markdown, with a table of the gate's measures per fold."""
    lines = ["# Verdict", "", summary.line]
    for fold, gate in summary.gates.items():
        lines += ["", f"## Fold {fold}: {gate.verdict}", ""]
        lines += ["| measure | value | real vs. real | ratio | limit |", "|---|---|---|---|---|"]
        for name, measure in gate.measures.items():
            cells = [measure.value, measure.baseline, measure.ratio]
            shown = ["-" if cell is None else f"{cell:.3g}" for cell in cells]
            lines.append(f"| {name} | {' | '.join(shown)} | {measure.limit or '-'} |")
    if summary.lift is not None:
        lines += ["", "## Lift", ""]
        for task, claim in summary.lift.claim.items():
            lines.append("; ".join([f"- {task}: **{claim}**", *summary.lift.reasons.get(task, [])]))
    return "\n".join(lines)
