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
    level = rng.uniform(0.2, 0.9, patients)
    tables = []
    for arm in arms:
        of_patient = 0.045 / np.sqrt(2) * rng.normal(size=patients)
        for size in (6, 11):
            for draw in range(draws):
                value = level + of_patient + 0.03 / np.sqrt(2) * rng.normal()
                value = value + 0.05 * rng.normal(size=patients) + gain * ("implant" in arm)
                tables.append(
                    pd.DataFrame(
                        {"size": size, "draw": draw, "task": "segment", "arm": arm, "seed": 0,
                         "setting": "a", "unlabelled": 1,
                         "subject": [f"p{i}" for i in range(patients)], "value": value}
                    )
                )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def test_without_an_effect_the_interval_holds_zero_in_about_95_of_100_studies():
    two = (RC, f"{RC}+implant")
    found = [measure(rows(seed, arms=two), two[1], RC) for seed in range(120)]
    covered = np.mean([one.low < 0 < one.high for one in found])
    assert 0.92 <= covered <= 0.995
    errors = np.std([one.estimate for one in found]) / np.mean([one.error for one in found])
    assert 0.8 < errors < 1.1  # it states its own error


def test_an_effect_is_estimated_without_bias_and_the_mixed_model_agrees():
    table = rows(1, gain=0.05)
    one = measure(table, f"{RC}+implant", RC)
    assert one.estimate == pytest.approx(0.05, abs=3 * one.error)
    low, high = mixed_model_interval(differences(table, f"{RC}+implant", RC))
    assert (low + high) / 2 == pytest.approx(one.estimate, abs=1e-4)
    assert (high - low) == pytest.approx(one.high - one.low, rel=0.35)


def test_claims_stop_at_the_first_that_fails(tmp_path, monkeypatch, capsys):
    table = rows(2, gain=0.08)
    pasted = table["arm"] == f"{RC}+paste-unlabelled"
    table.loc[pasted, "value"] += 0.08  # the twin does as well: what follows is not claimed
    path = tmp_path / "rows.csv"
    table.assign(seconds=0).to_csv(path, index=False)
    monkeypatch.setattr("sys.argv", ["confirm_lift", str(path), "--sizes", "6", "11"])
    confirm_lift.main()
    said = [line for line in capsys.readouterr().out.splitlines() if line[:2] in ("1.", "2.", "3.")]
    assert [": claimed" in line for line in said] == [True, False, False]


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
