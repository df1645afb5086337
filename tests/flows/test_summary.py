"""What the summary says beside the verdict."""

import json
from pathlib import Path

import pytest
import yaml

from flows import summary
from tasks.schemas.lift import ArmFigure, Lift


@pytest.mark.parametrize("known", [True, False])
def test_the_verdict_warns_where_slices_name_no_patient(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"slices": {"folds": [0]}}))
    Path("data/slices").mkdir(parents=True)
    summary.STATS.write_text(json.dumps({"patients_known": known}))
    found = summary.read()
    assert ("The split may leak" in found.line) is not known
    assert found.line in summary.text(found)


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
    said = summary.text(summary.Summary({}, lift))
    assert "0.285 (not converged)" in said and "too few" in said
    assert "classify: no evidence\n  but validation still rose at the end in real" in said
    assert "note: classify: seed 0 is left out of all arms" in said
