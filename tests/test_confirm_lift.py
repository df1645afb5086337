"""The frozen protocol's analysis: coverage under no effect, order of claims, draws left out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from benchmarks import confirm_lift
from benchmarks.confirm_lift import (
    RC,
    check_one_experiment,
    complete_draws,
    differences,
    measure,
    mixed_model_interval,
    nothing_added,
)

ARMS = (RC, f"{RC}+copy-paste", f"{RC}+paste-unlabelled", f"{RC}+pseudo-label", f"{RC}+implant",
        f"{RC}+pseudo-label+implant")  # fmt: skip


def rows(
    seed: int, *, gain: float = 0.0, draws: int = 12, patients: int = 33, arms: Sequence[str] = ARMS
) -> pd.DataFrame:
    """Rows as `benchmarks.baselines` writes them: patient SD .045, draw SD .03 a contrast."""
    rng = np.random.default_rng(seed)
    axes = {"arm": list(arms), "size": [6, 11], "draw": range(draws),
            "subject": [f"p{i}" for i in range(patients)]}  # fmt: skip
    shape = [len(labels) for labels in axes.values()]
    level = rng.uniform(0.2, 0.9, patients)
    of_patient = 0.045 / np.sqrt(2) * rng.normal(size=(len(arms), 1, 1, patients))
    of_draw = 0.03 / np.sqrt(2) * rng.normal(size=(*shape[:3], 1))
    gained = np.array([gain * ("implant" in arm) for arm in arms]).reshape(-1, 1, 1, 1)
    value = level + of_patient + of_draw + 0.05 * rng.normal(size=shape) + gained
    table = pd.MultiIndex.from_product(axes.values(), names=list(axes)).to_frame(index=False)
    return table.assign(task="segment", seed=0, setting="a", unlabelled=1, value=value.ravel())


def test_without_an_effect_the_interval_holds_zero_in_about_95_of_100_studies():
    two = (RC, f"{RC}+implant")
    studies = [measure(rows(seed, arms=two), two[1], RC) for seed in range(200)]
    covered = np.mean([study.low < 0 < study.high for study in studies])
    assert 0.92 <= covered <= 0.995
    errors = np.std([s.estimate for s in studies]) / np.mean([s.error for s in studies])
    assert 0.8 < errors < 1.1  # it states its own error


def test_an_effect_is_estimated_without_bias_and_the_mixed_model_agrees():
    table = rows(1, gain=0.05)
    study = measure(table, f"{RC}+implant", RC)
    assert study.estimate == pytest.approx(0.05, abs=3 * study.error)
    low, high = mixed_model_interval(differences(table, f"{RC}+implant", RC))
    assert (low + high) / 2 == pytest.approx(study.estimate, abs=1e-4)
    assert (high - low) == pytest.approx(study.high - study.low, rel=0.35)


def test_claims_stop_at_the_first_that_fails(tmp_path, monkeypatch, capsys):
    table = rows(2, gain=0.08)
    pasted = table["arm"] == f"{RC}+paste-unlabelled"
    table.loc[pasted, "value"] += 0.08  # the twin does as well: what follows is not claimed
    path = tmp_path / "rows.csv"
    table.assign(seconds=0).to_csv(path, index=False)
    monkeypatch.setattr("sys.argv", ["confirm_lift", str(path), "--sizes", "6", "11"])
    confirm_lift.main()
    lines = capsys.readouterr().out.splitlines()
    claims = [line for line in lines if line[:2] in ("1.", "2.", "3.")]
    assert [": claimed" in line for line in claims] == [True, False, False]


def test_a_draw_without_one_arm_is_left_out_of_its_size_for_all_and_named(capsys):
    table = rows(3, draws=4)
    gone = (table["arm"] == f"{RC}+implant") & (table["size"] == 6) & (table["draw"] == 2)
    table.loc[gone, "value"] = np.nan
    kept = complete_draws(table)
    assert "size 6, draw 2" in capsys.readouterr().out
    assert kept.groupby(["size", "draw"]).ngroups == 7
    assert kept.groupby(["size", "draw"])["arm"].nunique().eq(len(ARMS)).all()


def test_an_arm_that_could_not_be_made_adds_nothing_in_its_draw():
    table = rows(4, gain=0.1, draws=4)
    gone = (table["arm"] == f"{RC}+implant") & (table["draw"] == 2)
    table.loc[gone, "value"] = np.nan
    filled = differences(nothing_added(table, f"{RC}+implant", RC), f"{RC}+implant", RC)
    assert (filled.loc[filled["draw"] == 2, "difference"] == 0).all()
    assert filled.groupby(["size", "draw"]).ngroups == 8


def test_rows_of_two_settings_are_no_experiment():
    table = rows(5, draws=2)
    with pytest.raises(SystemExit, match="2 settings"):
        check_one_experiment(pd.concat([table, table.assign(setting="b")]), [6, 11])
