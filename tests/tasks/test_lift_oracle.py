"""The judge is judged: the comparison on generators whose worth is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.common.slice_set import SliceSet
from tasks.downstream.__main__ import main as downstream
from tasks.lift.__main__ import main as lift
from tests.tasks import phantom_oracle_fixtures
from tests.tasks.lift_fixtures import results

pytestmark = [pytest.mark.verify, pytest.mark.timeout(3600)]
OWN = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("phantom")
        patch.chdir(root)
        return phantom_oracle_fixtures.simulate(root)


def world(
    root: Path,
    study: phantom_oracle_fixtures.Study,
    pool: SliceSet,
    arms: list[str],
    *,
    few: bool = True,
    seeds: tuple[int, ...] = (0, 1),
) -> None:
    asked = {"tasks": ["segment"], "arms": arms, "seeds": list(seeds)}
    params = {
        "slices": OWN["slices"],
        "downstream": OWN["downstream"] | asked,
        "lift": OWN["lift"],
    }
    phantom_oracle_fixtures.write_world(root, study, pool, few=few, params=params)
    for arm in arms:
        downstream("segment", arm)


def mean_dice() -> float:
    patients = pd.read_parquet("data/downstream/segment-real/patients.parquet")
    return float(patients.loc[patients["metric"] == "dice_volume", "value"].mean())


def test_fresh_patients_of_the_simulator_help(study, tmp_path, monkeypatch):
    """There is headroom first: many real patients beat few ones by five points and more."""
    none = study.fresh.select(np.zeros(0, dtype=int))
    monkeypatch.chdir(tmp_path)
    world(tmp_path, study, none, ["real"], few=False)
    many = mean_dice()
    # Few patients' networks spread: three seeds would leave it open what the lift is.
    world(tmp_path, study, study.fresh, phantom_oracle_fixtures.ARMS, seeds=(0, 1, 2, 3, 4))
    assert many - mean_dice() > 0.05
    lift()
    assert results(tmp_path)["claim"] == {"segment": "helps"}


@pytest.mark.parametrize("kind", ["copied", "wrongly_masked"])
def test_copies_are_no_evidence_and_wrong_outlines_do_not_help(study, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    slices = getattr(phantom_oracle_fixtures, kind)(study)
    world(tmp_path, study, slices, phantom_oracle_fixtures.ARMS)
    lift()
    allowed = {"copied": {"no evidence"}, "wrongly_masked": {"harms", "no evidence"}}[kind]
    assert results(tmp_path)["claim"]["segment"] in allowed


def test_random_labels_score_at_chance_and_with_a_split_by_slice_far_above(
    study, tmp_path, monkeypatch
):
    """Labels drawn by patient teach nothing across patients, and everything inside one."""
    monkeypatch.chdir(tmp_path)
    arms = ["real", "random-labels", "random-labels+slice-split"]
    params = {
        "slices": OWN["slices"],
        "downstream": OWN["downstream"] | {"tasks": ["classify"], "arms": arms},
        "lift": OWN["lift"],
    }
    none = study.fresh.select(np.zeros(0, dtype=int))
    phantom_oracle_fixtures.write_world(tmp_path, study, none, few=False, params=params)
    for arm in arms:
        phantom_oracle_fixtures.write_pool(tmp_path, arm, none)
        downstream("classify", arm)
    lift()
    figures = results(tmp_path)["tasks"]["classify"]["auroc"]
    low, high = figures["random-labels"]["ci95"]
    assert low < 0.5 < high
    leaky = figures["random-labels+slice-split"]
    assert leaky["ci95"][0] > 0.5 and leaky["mean"] > 0.6
