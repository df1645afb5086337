"""With `gate.readers` the gate's verdict asks for a reader study, and never for another one."""

from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from tasks.common.fold_digest import without_readers
from tasks.common.release_candidate import read_candidate
from tasks.gate import __main__ as stage
from tasks.gate.verdict import GateResult
from tasks.schemas.metrics import GateMetrics
from tasks.stage.errors import InputError
from tests.tasks.fake_run import Run, write
from tests.tasks.test_review_stages import answer, release, set_params

METRICS = Path("data/gate/0/metrics.json")
CRITERION = {"min_readers": 2, "max_accuracy": 0.9}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write(tmp_path / "run", Run(synthetic=40, accept_share=0.9)))
    decide(monkeypatch, "accepted")
    return Path()


def decide(patch: pytest.MonkeyPatch, verdict: Literal["accepted", "rejected"]) -> None:
    """Let the measures end in this verdict."""
    samples = pd.read_parquet("data/gate/0/samples.parquet")
    images = {"n": len(samples), "accepted": int(samples["accepted"].sum()), "memorised": 0}
    reasons = [] if verdict == "accepted" else ["frechet: 9.00 times that of real slices"]
    parts: dict[str, Any] = {}
    result = GateResult(
        reasons, images, {}, samples, parts, parts, {}, {}, [], parts
    )  # fmt: skip
    patch.setattr(stage, "verdict", lambda *_, **__: result)


def gate() -> GateMetrics:
    stage.main("0")
    return GateMetrics.model_validate_json(METRICS.read_bytes())


def test_the_gate_rejects_until_readers_have_rated_the_slices_well_enough(root: Path) -> None:
    assert gate().verdict == "accepted"
    before, digest = METRICS.read_bytes(), read_candidate(["0"]).fold_digests["0"]
    set_params("gate", readers=CRITERION)
    unrated = gate()
    assert unrated.verdict == "rejected"
    assert unrated.reasons[0].startswith("readers: nobody has rated these slices, and gate.readers")
    assert without_readers(METRICS.read_bytes()) == before
    assert read_candidate(["0"]).fold_digests["0"] == digest
    answer({"A": 0.5, "B": 0.5})
    assert gate().verdict == "accepted"
    assert release()["readers"].startswith("2 readers told")  # the same study counts there
    answer({"A": 1.0, "B": 1.0})
    seen_through = gate()
    assert seen_through.verdict == "rejected"
    assert "accuracy 1.00" in seen_through.reasons[0]
    assert "gate.readers.max_accuracy: 0.9" in seen_through.reasons[0]
    assert release()["status"] == "refused"
    set_params("gate", readers=None)
    assert gate().verdict == "accepted"
    assert METRICS.read_bytes() == before  # off, no byte of it stays


def test_answers_on_other_slices_do_not_count_and_a_rejected_set_asks_for_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params("gate", readers=CRITERION)
    gate()
    answer({"A": 0.5, "B": 0.5}, digest="0" * 64)
    assert "nobody has rated" in gate().reasons[0]
    decide(monkeypatch, "rejected")
    assert gate().reasons == ["frechet: 9.00 times that of real slices"]


def test_a_damaged_review_ends_the_gate_before_it_measures(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params("gate", readers=CRITERION)
    Path("data/review.json").write_text('{"folds": {')
    monkeypatch.setattr(stage, "verdict", lambda *_, **__: pytest.fail("it measured"))
    with pytest.raises(InputError, match=r"review\.json"):
        stage.main("0")
