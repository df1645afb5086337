"""Networks that learnt nothing, and seeds that are missing: what they cost, what is not claimed."""

import json

import pandas as pd
import pytest

from tasks.lift.__main__ import main
from tests.tasks import lift_fixtures
from tests.tasks.lift_fixtures import fail, write_dice


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_seed_that_failed_in_one_arm_is_left_out_of_all_and_a_spare_one_stands_in(root):
    """The failed run is off by half a Dice; with it no lift could be seen."""
    lifts = dict.fromkeys(lift_fixtures.ARMS, 0.0) | {"real+synthetic": 0.1}
    write_dice(root, lifts, seeds=(0, 1, 2, 3), requested=(0, 1, 2))
    path = root / "data/downstream/segment-real+synthetic/patients.parquet"
    table = pd.read_parquet(path)
    table.loc[table["seed"] == 1, "value"] = 0.0
    lift_fixtures.write_segment(root, "real+synthetic", table, failed=(1,))
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "helps"} and results["n_seeds"] == 3
    figure = results["tasks"]["segment"]["dice_volume"]["real+synthetic"]
    assert figure["lift_over_real"] == pytest.approx(0.1, abs=0.02) and figure["status"] == "ok"
    assert results["notes"] == [
        "segment: seed 1 is left out of all arms: real+synthetic learnt nothing with it"
    ]


def test_without_a_spare_seed_fewer_are_left_and_it_says_so(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0))
    fail(root, "real", (0,))
    main()
    results = lift_fixtures.results(root)
    assert results["n_seeds"] == 2
    assert "2 of 3 seeds are left; raise downstream.reruns" in results["notes"][1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_failed_seed_is_named_wherever_it_stands(root, seed):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0))
    fail(root, "real+synthetic", (seed,))
    main()
    results = lift_fixtures.results(root)
    assert results["notes"][0] == (
        f"segment: seed {seed} is left out of all arms: real+synthetic learnt nothing with it"
    )
    figures = results["tasks"]["segment"]["dice_volume"]
    assert figures["real+synthetic"]["status"] == "seed failed"
    assert figures["real"]["status"] == "ok"
    assert results["trained"]["segment"]["real+synthetic"]["failed_seeds"] == [seed]


def test_an_arm_that_never_converged_keeps_its_figures_and_costs_the_others_no_seed(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0))
    fail(root, "synthetic", (0, 1, 2))
    main()
    results = lift_fixtures.results(root)
    figure = results["tasks"]["segment"]["dice_volume"]["synthetic"]
    assert figure["status"] == "not converged" and figure["mean"] is not None
    assert figure["lift_over_real"] is None
    assert results["n_seeds"] == 3
    assert results["trained"]["segment"]["synthetic"]["failed_seeds"] == [0, 1, 2]


def test_an_arm_that_no_claim_is_read_off_costs_none_a_seed(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0), seeds=(0, 1))
    fail(root, "synthetic", (1,))
    main()
    results = lift_fixtures.results(root)
    assert results["n_seeds"] == 2
    assert results["tasks"]["segment"]["dice_volume"]["synthetic"]["status"] == "not converged"
    assert results["claim"] == {"segment": "no evidence"}


def test_an_arm_with_too_few_slices_in_one_fold_costs_none_a_seed(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0), seeds=(0, 1), folds=("a", "b"))
    fail(root, "synthetic", (0,), of="a")
    folder = root / "data/downstream/segment-synthetic"
    (folder / "status.json").write_text(json.dumps({"a": "ok", "b": "too few"}))
    main()
    results = lift_fixtures.results(root)
    assert results["n_seeds"] == 2 and results["notes"] == []


@pytest.mark.parametrize(
    "arms", [["real", "real+synthetic"], ["real", "real+classical", "real+synthetic"]]
)
@pytest.mark.parametrize("left", ["one asked for", "one failed"])
@pytest.mark.parametrize("lift", [0.12, -0.12])
def test_one_seed_claims_nothing_and_says_why(root, arms, left, lift):
    seeds = (0,) if left == "one asked for" else (0, 1)
    lifts = dict.fromkeys(arms, 0.0) | {"real+synthetic": lift}
    write_dice(root, lifts, seeds=seeds)
    if left == "one failed":
        fail(root, "real", (1,))
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "not measured"}
    (reason,) = results["reasons"]["segment"]
    assert "1 seed is left" in reason and "downstream.reruns" in reason
    assert any("one seed tells nothing" in note for note in results["notes"])
    figure = results["tasks"]["segment"]["dice_volume"]["real+synthetic"]
    assert figure["mean"] is not None
    assert figure["ci95"] is figure["lift_ci95"] is figure["p_adjusted"] is None
    assert results["contrasts"]["segment"] == []


@pytest.mark.parametrize("arm", ["real", "real+classical", "real+copy-paste"])
def test_nothing_is_claimed_over_a_reference_that_learnt_nothing(root, arm):
    """Dice 0 in one way of training without synthetic slices, and any network beats it."""
    arms = ["real", "real+classical", "real+copy-paste", "real+synthetic"]
    write_dice(root, dict.fromkeys(arms, 0.0) | {"real+synthetic": 0.12})
    table = pd.read_parquet(root / f"data/downstream/segment-{arm}/patients.parquet")
    lift_fixtures.write_segment(root, arm, table.assign(value=0.0), failed=(0, 1, 2))
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "not measured"}
    assert results["reasons"]["segment"] == [
        f"{arm} did not converge: its networks of seed 0, 1, 2 learnt nothing of validation"
        " patients; raise downstream.segment.steps"
    ]


def test_nothing_is_claimed_where_a_reference_has_too_few_slices(root):
    arms = ["real", "real+copy-paste", "real+synthetic"]
    write_dice(root, dict.fromkeys(arms, 0.0) | {"real+synthetic": 0.12})
    empty = pd.read_parquet(root / "data/downstream/segment-real/patients.parquet").iloc[:0]
    lift_fixtures.write_segment(root, "real+copy-paste", empty, "too few")
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": "not measured"}
    assert results["reasons"]["segment"] == ["real+copy-paste has too few added slices to train on"]


@pytest.mark.parametrize(
    ("folds", "claim"), [({"a": "not applicable"}, "helps"), ({"a": "ok"}, "not measured")]
)
def test_a_rival_that_no_cohort_without_unlabelled_scans_could_train_is_no_reference(
    root, folds, claim
):
    """It is one where some folds have such scans: then it was not compared in the others."""
    rival = "real+paste-unlabelled"
    arms = ["real", "real+classical", rival, "real+implant", "real+synthetic"]
    write_dice(root, dict.fromkeys(arms, 0.0) | {"real+synthetic": 0.12})
    empty = pd.read_parquet(root / "data/downstream/segment-real/patients.parquet").iloc[:0]
    for arm in (rival, "real+implant"):
        lift_fixtures.write_segment(root, arm, empty, "not applicable")
    path = root / f"data/downstream/segment-{rival}/status.json"
    path.write_text(json.dumps({"b": "not applicable"} | folds))
    main()
    results = lift_fixtures.results(root)
    assert results["claim"] == {"segment": claim}
    if claim == "helps":
        assert results["reasons"]["segment"] == [
            f"every training slice is outlined, so that {rival} and real+implant do not apply"
        ]
    else:
        assert results["reasons"]["segment"] == [f"{rival} has too few added slices to train on"]


@pytest.mark.parametrize("alone", [True, False])
def test_a_candidate_that_never_converged_does_no_harm(root, alone):
    arms = ["real", "real+synthetic"] + ([] if alone else ["real+classical+synthetic"])
    write_dice(root, dict.fromkeys(arms, 0.0))
    table = pd.read_parquet(root / "data/downstream/segment-real/patients.parquet")
    lift_fixtures.write_segment(root, "real+synthetic", table.assign(value=0.0), failed=(0, 1, 2))
    main()
    results = lift_fixtures.results(root)
    (reason,) = results["reasons"]["segment"]
    assert "real+synthetic" in reason and "did not converge" in reason
    assert results["claim"] == {"segment": "not measured" if alone else "no evidence"}
    assert results["tasks"]["segment"]["dice_volume"]["real+synthetic"]["lift_over_real"] is None


def test_a_validation_curve_that_still_rises_is_said_in_the_claim(root):
    lifts = dict.fromkeys(lift_fixtures.ARMS, 0.0) | {"real+synthetic": 0.12}
    write_dice(root, lifts)
    table = pd.read_parquet(root / "data/downstream/segment-real/patients.parquet")
    lift_fixtures.write_segment(root, "real", table, rise=0.05)
    main()
    results = lift_fixtures.results(root)
    assert results["trained"]["segment"]["real"]["flat"] is False
    assert results["trained"]["segment"]["synthetic"]["flat"] is True
    assert results["claim"] == {"segment": "helps"} and results["notes"] == []
    assert results["reasons"]["segment"] == [
        "validation still rose at the end in real: more steps (downstream.segment.steps) may"
        " change the claim"
    ]
    shown = json.loads((root / "data/lift_metrics.json").read_text())["segment"]
    assert shown["reason"] == results["reasons"]["segment"][0]


def test_two_seeds_are_said_to_show_hardly_any_lift(root):
    write_dice(root, dict.fromkeys(lift_fixtures.ARMS, 0.0), seeds=(0, 1))
    main()
    (reason,) = lift_fixtures.results(root)["reasons"]["segment"]
    assert "train three or more" in reason
