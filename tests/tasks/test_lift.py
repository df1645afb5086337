import json

import numpy as np
import pandas as pd
import pytest

from tasks.lift.__main__ import main
from tasks.schemas.lift_rows import LiftRows
from tasks.stage.errors import InputError
from tests.tasks import lift_fixtures
from tests.tasks.lift_fixtures import write_dice


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_identical_arms_have_no_lift_and_no_evidence(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0), noise=0.0)
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "no evidence"}
    for arm in lift_fixtures.ARMS[1:]:
        figure = results["tasks"]["segment"]["dice_volume"][arm]
        assert figure["lift_over_real"] == pytest.approx(0, abs=1e-12)
        assert figure["lift_ci95"] == pytest.approx([0, 0], abs=1e-9)
        assert figure["p_adjusted"] == 1


def test_a_shifted_synthetic_arm_helps_by_the_shift(root):
    lifts = dict.fromkeys(lift_fixtures.ARMS, 0.0) | {"real+synthetic": 0.1}
    write_dice(root, lifts)
    main()
    results = lift_fixtures.results(root)
    figure = results["tasks"]["segment"]["dice_volume"]["real+synthetic"]
    assert results["claim"] == {"segment": "helps"}
    assert figure["lift_over_real"] == pytest.approx(0.1, abs=0.02)
    assert figure["lift_ci95"][0] < 0.1 < figure["lift_ci95"][1]
    assert figure["p_adjusted"] <= 0.05
    assert {(c["arm"], c["reference"]) for c in results["contrasts"]["segment"]} >= {
        ("real+synthetic", "real"), ("real+synthetic", "real+classical")
    }  # fmt: skip


def test_beating_real_alone_is_no_evidence_when_classical_does_as_well(root):
    lifts = dict.fromkeys(lift_fixtures.ARMS, 0.1) | {"real": 0.0}
    write_dice(root, lifts)
    main()
    results = lift_fixtures.results(root)
    assert results["tasks"]["segment"]["dice_volume"]["real+synthetic"]["lift_ci95"][0] > 0
    assert results["claim"] == {"segment": "no evidence"}


def test_without_the_real_arm_figures_stand_and_nothing_is_claimed(root):
    write_dice(root, {"real+classical": 0.0, "real+classical+synthetic": 0.1})
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "not measured"}
    figures = results["tasks"]["segment"]["dice_volume"]
    assert figures["real+classical+synthetic"]["mean"] > figures["real+classical"]["mean"]
    assert figures["real+classical"]["lift_over_real"] is None


def test_an_arm_below_every_rival_harms(root):
    lifts = dict.fromkeys(lift_fixtures.ARMS, 0.0) | {"real+synthetic": -0.1}
    write_dice(root, lifts)
    main()
    assert lift_fixtures.results(root)["claim"] == {"segment": "harms"}


def test_runs_that_disagree_are_no_evidence_however_many_patients_agree(root):
    """A lucky seed: each run's patients all gain, but one run gains what the other loses."""
    names = lift_fixtures.subjects(200)
    lift_fixtures.write_params(root, ["segment"], ["real", "real+synthetic"])
    level = np.random.default_rng(0).uniform(0.3, 0.7, 200)
    for arm, swing in (("real", 0.0), ("real+synthetic", 0.1)):
        values = {("0", 0): level + swing + 0.02, ("0", 1): level - swing + 0.02}
        lift_fixtures.write_segment(root, arm, lift_fixtures.segment_arm(values, names))
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "no evidence"}
    low, high = results["tasks"]["segment"]["dice_volume"]["real+synthetic"]["lift_ci95"]
    assert low < -0.1 and high > 0.1


def test_too_few_patients_leave_null_figures(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0), patients=4)
    main()
    results = lift_fixtures.results(root)
    figure = results["tasks"]["segment"]["dice_volume"]["real+synthetic"]
    assert results["claim"] == {"segment": "not measured"}
    assert figure["mean"] is None and figure["lift_ci95"] is None
    assert figure["status"] == "too few patients"
    assert "defined for 4 test patients, and lift.min_patients asks for 6" in results["notes"][0]


def test_an_arm_with_too_few_slices_is_marked_and_the_others_are_measured(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0))
    empty = pd.read_parquet(root / "data/downstream/segment-real/patients.parquet").iloc[:0]
    for arm in ("real+synthetic", "real+classical+synthetic", "synthetic"):
        lift_fixtures.write_segment(root, arm, empty, "too few")
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "not measured"}
    assert results["tasks"]["segment"]["dice_volume"]["synthetic"]["status"] == "too few"
    assert results["tasks"]["segment"]["dice_volume"]["real+classical"]["mean"] is not None


def test_arms_of_different_patients_are_refused_by_name(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0))
    table = pd.read_parquet(root / "data/downstream/segment-real+synthetic/patients.parquet")
    lift_fixtures.write_segment(root, "real+synthetic", table[table["subject"] != "sub-000"])
    with pytest.raises(InputError, match=r"real\+synthetic was tested on other patients"):
        main()


@pytest.mark.parametrize("name", ["patients", "predictions", "runs"])
@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_a_damaged_table_is_one_line_that_names_it(root, name, fault):
    write_dice(root, {"real": 0.0})
    path = root / f"data/downstream/segment-real/{name}.parquet"
    path.unlink() if fault == "missing" else path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"segment-real/{name}\.parquet is {fault}"):
        main()
    assert not (root / "data/lift.json").exists()


@pytest.mark.parametrize("value", [7.5, -0.1, np.inf])
def test_figures_that_cannot_be_are_refused(root, value):
    write_dice(root, {"real": 0.0})
    path = root / "data/downstream/segment-real/patients.parquet"
    table = pd.read_parquet(path)
    table.loc[table["metric"] == "dice_volume", "value"] = value
    table.to_parquet(path)
    with pytest.raises(InputError, match=r"patients\.parquet is damaged.*0 and 1"):
        main()


def test_order_of_rows_and_names_of_patients_change_nothing(root):
    write_dice(
        root, dict.fromkeys(lift_fixtures.ARMS, 0.0) | {"real+synthetic": 0.03}, folds=("a", "b")
    )
    main()
    before = (root / "data/lift.json").read_bytes()
    for arm in lift_fixtures.ARMS:
        path = root / f"data/downstream/segment-{arm}/patients.parquet"
        pd.read_parquet(path).sample(frac=1, random_state=4).to_parquet(path)
    main()
    assert (root / "data/lift.json").read_bytes() == before


def test_csv_holds_the_same_figures_as_json(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0) | {"real+synthetic": 0.03})
    main()
    rows = LiftRows.validate(pd.read_csv(root / "data/lift.csv"))
    assert len(rows) == 6 * len(lift_fixtures.ARMS)
    row = rows[(rows["metric"] == "dice_volume") & (rows["arm"] == "real+synthetic")].iloc[0]
    figure = lift_fixtures.results(root)["tasks"]["segment"]["dice_volume"]["real+synthetic"]
    assert row["lift"] == pytest.approx(figure["lift_over_real"], abs=1e-6)
    assert row["lift_low"] == pytest.approx(figure["lift_ci95"][0], abs=1e-6)


def test_better_ranking_by_synthetic_slices_helps_to_classify(root):
    rng = np.random.default_rng(2)
    names = lift_fixtures.subjects(24)
    lift_fixtures.write_params(root, ["classify"], seeds=range(4))
    for arm in lift_fixtures.ARMS:
        shift = 4.0 if arm == "real+synthetic" else 1.0
        table = lift_fixtures.classify_arm(names, rng, shift=shift, seeds=tuple(range(4)))
        lift_fixtures.write_classify(root, arm, table)
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"classify": "helps"}
    assert results["n_patients"] == 24 and results["n_seeds"] == 4
    metrics = results["tasks"]["classify"]
    assert metrics["auroc"]["real"]["mean"] == pytest.approx(0.76, abs=0.08)
    assert metrics["brier"]["real+synthetic"]["lift_over_real"] < 0


def test_patients_are_ranked_only_where_some_have_no_tumour(root):
    rng = np.random.default_rng(2)
    names = lift_fixtures.subjects(20)
    lift_fixtures.write_params(root, ["classify"], ["real"])
    table = lift_fixtures.classify_arm(names, rng, shift=3.0)
    lift_fixtures.write_classify(root, "real", table)
    main()
    figure = lift_fixtures.results(root)["tasks"]["classify"]["auroc_patient"]["real"]
    assert figure["mean"] is None and figure["status"] == "not defined"
    healthy = table["subject"].isin(names[:10])
    lift_fixtures.write_classify(root, "real", table[~healthy | (table["label"] == 0)])
    main()
    figure = lift_fixtures.results(root)["tasks"]["classify"]["auroc_patient"]["real"]
    assert figure["mean"] > 0.7 and figure["n_patients"] == 10


@pytest.mark.parametrize("tumors", [1, 2, 5])
@pytest.mark.parametrize("rare", ["tumor", "none"])
def test_auroc_counts_the_patients_of_the_rarer_kind(root, tumors, rare):
    """Twelve test patients, of whom one to five show a tumour, or anything but tumour."""
    rng = np.random.default_rng(2)
    names = lift_fixtures.subjects(12)
    lift_fixtures.write_params(root, ["classify"], ["real", "real+synthetic"], seeds=(0, 1, 2))
    for arm, shift in (("real", 0.5), ("real+synthetic", 4.0)):
        table = lift_fixtures.classify_arm(names, rng, shift=shift, seeds=(0, 1, 2))
        few = table["subject"].isin(names[:tumors])
        common = table["label"] == (0 if rare == "tumor" else 1)
        lift_fixtures.write_classify(root, arm, table[few | common])
    main()
    results = lift_fixtures.results(root)
    figure = results["tasks"]["classify"]["auroc"]["real+synthetic"]
    assert figure["n_patients"] == tumors and figure["status"] == "too few patients"
    assert results["claim"] == {"classify": "not measured"}
    assert results["reasons"]["classify"] == [
        f"auroc rests on {tumors} test patients with (or without) a tumour, and lift.min_patients"
        " asks for 6"
    ]


def test_subgroups_show_for_whom_it_helped(root):
    """Arm real+synthetic helps patients with larger tumours only."""
    names = lift_fixtures.subjects(24)
    rng = np.random.default_rng(3)
    lift_fixtures.write_params(root, ["segment"], ["real", "real+synthetic"], seeds=range(4))
    level = rng.uniform(0.3, 0.6, 24)
    for arm, gain in (("real", 0.0), ("real+synthetic", 0.2)):
        values = level + gain * (np.arange(24) >= 12) + 0.01 * rng.normal(size=(4, 24))
        table = lift_fixtures.segment_arm({("0", seed): values[seed] for seed in range(4)}, names)
        lift_fixtures.write_segment(root, arm, table)  # later patients have larger tumours
    main()
    sizes = lift_fixtures.results(root)["subgroups"]["segment"]["tumor_size"]
    assert sizes["larger"]["real+synthetic"]["lift_over_real"] == pytest.approx(0.2, abs=0.02)
    assert sizes["larger"]["real+synthetic"]["lift_ci95"][0] > 0.1
    low, high = sizes["smaller"]["real+synthetic"]["lift_ci95"]
    assert low < 0.02 and high < 0.1
    assert sizes["smaller"]["real"]["n_patients"] == 12


def test_random_labels_stand_apart_from_the_comparison(root):
    rng = np.random.default_rng(2)
    names = lift_fixtures.subjects(20)
    arms = ["real", "real+synthetic", "random-labels"]
    lift_fixtures.write_params(root, ["classify"], arms)
    for arm in arms:
        seeds = (0, 1, 2, 3) if arm == "random-labels" else (0, 1)
        shift = 0.0 if arm == "random-labels" else 2.0
        lift_fixtures.write_classify(
            root, arm, lift_fixtures.classify_arm(names, rng, shift=shift, seeds=seeds)
        )
    main()
    results = lift_fixtures.results(root)
    chance = results["tasks"]["classify"]["auroc"]["random-labels"]
    assert chance["ci95"][0] < 0.5 < chance["ci95"][1]
    assert chance["lift_over_real"] is None
    assert {c["reference"] for c in results["contrasts"]["classify"]} == {"real"}


def test_arms_that_stand_apart_have_their_figures_also_alone(root):
    """As the leak detector is run by itself."""
    rng = np.random.default_rng(2)
    lift_fixtures.write_params(root, ["classify"], ["random-labels"])
    table = lift_fixtures.classify_arm(
        lift_fixtures.subjects(20), rng, shift=0.0, seeds=(0, 1, 2, 3)
    )
    lift_fixtures.write_classify(root, "random-labels", table)
    main()
    results = lift_fixtures.results(root)
    low, high = results["tasks"]["classify"]["auroc"]["random-labels"]["ci95"]
    assert low < 0.5 < high
    assert (
        results["claim"] == {"classify": "not measured"} and results["contrasts"]["classify"] == []
    )


def test_no_interval_holds_a_difference_that_the_metric_cannot_have(root):
    """Two seeds that disagree wildly tell so little that the raw interval is wider than AUROC."""
    rng = np.random.default_rng(2)
    names = lift_fixtures.subjects(8)
    lift_fixtures.write_params(root, ["classify"], ["real", "real+synthetic"])
    for arm in ("real", "real+synthetic"):
        parts = [
            lift_fixtures.classify_arm(names, rng, shift=s, seeds=(k,))
            for k, s in enumerate((-3, 3))
        ]
        lift_fixtures.write_classify(root, arm, pd.concat(parts[:: 1 if arm == "real" else -1]))
    main()
    results = lift_fixtures.results(root)
    for arms in results["tasks"]["classify"].values():
        low, high = arms["real+synthetic"]["lift_ci95"] or (0, 0)
        assert -1 <= low <= high <= 1
    assert all(c["ci95"][0] >= -1 and c["ci95"][1] <= 1 for c in results["contrasts"]["classify"])


def test_the_metrics_for_dvc_hold_the_primary_metric_in_single_numbers(root):
    values = np.random.default_rng(0).uniform(0.3, 0.6, (3, 24))
    lift_fixtures.write_params(root, ["segment"], ["real", "real+synthetic"], seeds=range(3))
    for arm, gain in (("real", 0.0), ("real+synthetic", 0.1)):
        runs = {("0", seed): values[seed] + gain for seed in range(3)}
        lift_fixtures.write_segment(
            root, arm, lift_fixtures.segment_arm(runs, lift_fixtures.subjects(24))
        )
    main()
    shown = json.loads((root / "data/lift_metrics.json").read_text())["segment"]
    figure = lift_fixtures.results(root)["tasks"]["segment"]["dice_volume"]["real+synthetic"]
    assert shown["claim"] == "helps"
    assert [shown["real+synthetic"][k] for k in ("mean", "low", "high")] == [
        figure["mean"], *figure["ci95"]
    ]  # fmt: skip
    assert shown["real+synthetic"]["lift_low"] == figure["lift_ci95"][0]
    assert shown["real"].keys() == {"mean", "low", "high"}
