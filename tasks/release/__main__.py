"""Stage `release`: write the accepted slices as a data set to hand over, or say why it is refused.

Reads `data/synthetic`, `data/gate`, `data/slices`, `data/lift.json`, `data/report.html`,
`data/review.json` and `data/approval.json`; writes `data/release/`.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import params
from tasks.common.cohort_counts import count_cohort
from tasks.common.few_patients import hide_few_patients
from tasks.common.flagged_slices import FLAGGED
from tasks.params.release import Release
from tasks.release import approval, data_card, reader_criterion, release_contents
from tasks.release.burned_in_mark import burn_in_marks
from tasks.release.checksums import write_checksums
from tasks.release.release_contents import REAL
from tasks.release.release_files import write_json, write_release
from tasks.schemas.lift import Lift
from tasks.schemas.metrics import read_metrics
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage


def main() -> None:
    """Write `data/release/`."""
    settings = params.read_section(Release)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    augmented_fold = settings.choose_fold(folds)
    augmented = settings.contents == "augmented"
    # Only the name of any other folder: its path may contain names, be it relative or not.
    source = Path(str(params.read_key("synthetic.source")))
    source_name = str(source) if source == Path("data/gan") else source.name
    candidate, digest = release_contents.choose_candidate(settings, folds)
    readers = reader_criterion.read_reader_results(candidate)
    stats = json.loads(Path("data/slices/stats.json").read_text())
    cohort = count_cohort(
        pd.read_parquet("data/slices/slices.parquet"),
        candidate.gates,
        settings.smallest_cell,
        stats.get("unused_patients", {}),
    )
    candidate, lift = hide_few_patients(
        candidate, read_metrics(Lift, Path("data/lift.json")), cohort, settings.smallest_cell
    )
    decision = approval.read_approval()
    accepted = int(candidate.samples["accepted"].sum())
    blocking = (
        candidate.reasons_not_releasable
        + approval.blocking_reasons(
            reasons=candidate.reasons,
            rejected=not candidate.accepted,
            accepted_slices=accepted,
            approval=decision,
            digest=digest,
            require_approval=settings.require_approval,
        )
        + reader_criterion.blocking_reasons(settings.readers, readers)
    )
    summary = {
        "status": "refused" if blocking else "released",
        "reasons": blocking,
        "version": settings.version,
        "contents": settings.contents,
        "digest": digest,
        "modalities": stats["modalities"],
        "pixel_mm": float(stats["pixel_mm"]),
        "verdicts": {fold: gate.verdict for fold, gate in candidate.gates.items()},
        "claim": lift.claim,
        "review": approval.describe_review(decision, digest),
        "readers": reader_criterion.describe_readers(readers),
        "flagged": int((candidate.samples["reason"] == FLAGGED).sum()),
        "slices": 0 if blocking else accepted,
        "real_slices": 0,
        # Named, not enclosed: the page shows training slices.
        "report_sha256": hashlib.sha256(Path("data/report.html").read_bytes()).hexdigest(),
    }
    with atomic_output(Path("data/release")) as folder:
        if blocking:
            text = data_card.render_refusal(summary=summary, candidate=candidate)
            (folder / "REFUSED.md").write_text(text)
            write_json(folder / "refusal.json", summary)
        else:
            contents = release_contents.accepted_slices(
                candidate, pixel_mm=float(stats["pixel_mm"])
            )
            if settings.burn_in_mark:
                marked = burn_in_marks(contents.images, contents.masks)
                contents = dataclasses.replace(contents, images=marked)
            patients = None
            if augmented:
                contents = contents + release_contents.training_slices(augmented_fold)
                patients = release_contents.read_patients(augmented_fold)
                summary["real_slices"] = int((contents.table["origin"] == REAL).sum())
                summary["left_out_synthetic"] = release_contents.count_synthetic_at_source(
                    augmented_fold
                )
                summary["fold"] = augmented_fold
            write_release(folder, contents, patients, settings=settings, stats=stats, digest=digest)
            text = data_card.render_data_card(
                summary=summary, candidate=candidate, lift=lift, table=contents.table,
                source=source_name, stats=stats, settings=settings,
                cohort=cohort,
            )  # fmt: skip
            (folder / "DATACARD.md").write_text(text)
            write_json(folder / "release.json", summary)
            write_checksums(folder)
    print("release:", describe_outcome(blocking, summary))


def describe_outcome(blocking: list[str], summary: dict[str, Any]) -> str:
    """Say in a line what was written."""
    if blocking:
        return f"refused: {'; '.join(blocking)}"
    words = f"{summary['slices']} slices"
    if summary["contents"] == "augmented":
        words += (
            f" and {summary['real_slices']} real ones of the patients who train in fold"
            f" {summary['fold']}: for use inside your institution"
        )
    return words


if __name__ == "__main__":
    run_stage(main)
