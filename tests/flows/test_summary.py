"""What the summary says beside the verdict."""

import json
from pathlib import Path

import pytest
import yaml

from flows import summary
from tasks.schemas.lift import ArmFigure, Lift
from tasks.schemas.metrics import GateMeasure, GateMetrics, SliceCounts


@pytest.mark.parametrize("known", [True, False])
def test_the_verdict_warns_where_slices_name_no_patient(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"slices": {"folds": [0]}}))
    Path("data/slices").mkdir(parents=True)
    summary.STATS.write_text(json.dumps({"patients_known": known}))
    result = summary.read_summary()
    assert ("The split may leak" in result.line) is not known
    assert result.line in summary.format_summary(result)


def test_a_figure_comes_with_its_status_and_the_lift_with_its_notes() -> None:
    figures = {
        "real": ArmFigure(mean=0.285, n_patients=9, status="not converged"),
        "synthetic": ArmFigure(status="too few"),
    }
    lift = Lift(
        claim={"classify": "no evidence"}, tasks={"classify": {"auroc": figures}},
        primary={"classify": "auroc"}, contrasts={}, n_patients=9, n_seeds=1, method="",
        notes=["classify: seed 0 is left out of all arms"],
        reasons={"classify": ["validation still rose at the end in real"]},
    )  # fmt: skip
    text = summary.format_summary(summary.Summary({}, lift))
    assert "0.285 (not converged)" in text and "too few" in text
    assert "classify: no evidence\n  but validation still rose at the end in real" in text
    assert "note: classify: seed 0 is left out of all arms" in text


def test_what_was_not_measured_is_told_beside_the_verdict_and_once() -> None:
    images = SliceCounts(n=9, accepted=9, memorised=0)
    lacking = {"tumor_copies": "10 tumours, at least 20 are needed", "recall": "no draw"}
    free = GateMeasure(limit=None)
    gate = GateMetrics(
        verdict="accepted", images=images, not_measured=lacking, measures={"recall": free}
    )
    text = summary.format_summary(summary.Summary({"0": gate}, None))
    assert "fold 0: tumor_copies: not measured: 10 tumours, at least 20 are needed" in text
    assert "recall" not in text  # without a limit it could not have rejected anything
    reason = "tumor_copies: not measured: 10 tumours, at least 20 are needed; add patients"
    update = {"verdict": "rejected", "reasons": [reason], "blocking": ["tumor_copies"]}
    rejected = summary.Summary({"0": gate.model_copy(update=update)}, None)
    assert summary.format_summary(rejected).count("tumor_copies") == 1
