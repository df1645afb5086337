"""AdaptiveAugmentation augmentation, conditions, and a start from earlier networks."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from models.dcgan import Architecture, Generator
from tasks.params.train_gan import TrainGan
from tasks.stage.errors import InputError
from tasks.train_gan import __main__ as train_gan
from tasks.train_gan.adaptive_augmentation import DECISION_INTERVAL, AdaptiveAugmentation
from tasks.train_gan.conditions import (
    condition_distribution,
    condition_scales,
    standardise_conditions,
)
from tests.tasks.train_gan_fixtures import OUT, TINY, write_params, write_workspace

NETWORKS = OUT / "networks.safetensors"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_workspace(tmp_path)


def adaptive(**changes: object) -> AdaptiveAugmentation:
    asked = {"ada_target": 0.5, "ada_images": 320} | changes
    return AdaptiveAugmentation(TrainGan.model_validate(TINY | asked), torch.device("cpu"))


def test_augmentation_grows_while_real_slices_score_high_and_falls_after() -> None:
    ada = adaptive()
    sure, unsure = torch.ones(8), torch.tensor([1.0, -1.0] * 4)
    seen = []
    for number in range(1, 61):
        ada.update_probability(number, sure if number <= 40 else unsure)
        seen.append(round(float(ada.probability), 6))
    pace = DECISION_INTERVAL * 8 / 320  # of 8 slices a step
    assert seen[0] == 0.0 and seen[DECISION_INTERVAL - 1] == pytest.approx(pace) and seen[39] == 1.0
    assert seen[43] == pytest.approx(1 - pace) and seen[-1] == pytest.approx(1 - 5 * pace)


def test_a_restored_probability_continues_unchanged() -> None:
    whole, halted = adaptive(), adaptive()
    scores = [torch.randn(8, generator=torch.Generator().manual_seed(i)) + 1 for i in range(20)]
    for number, logits in enumerate(scores, 1):
        whole.update_probability(number, logits)
        halted.update_probability(number, logits)
        if number == 10:
            state = halted.pack()
            halted = adaptive()
            halted.unpack(state)
    assert torch.equal(whole.pack(), halted.pack())


def test_without_a_target_every_slice_is_augmented(workspace: Path) -> None:
    assert float(adaptive(ada_target=0.0).probability) == 1.0
    write_params(
        workspace, gan={"ada_target": 0.5, "ada_images": 320, "watch_every": 4, "steps": 8}
    )
    train_gan.main("0")
    often = pd.read_csv(OUT / "history.csv")["augment"]
    assert set(often) <= {0.0, 0.1, 0.2}


TABLE = pd.DataFrame(
    {
        "label": [1, 1, 1, 0, 0, 0],
        "tumor_area_mm2": [np.e**4, np.e**5, np.e**6, 0.0, 0.0, 0.0],
        "position_mm": [10.0, 20.0, 30.0, -10.0, -20.0, -30.0],
    }
)


def test_areas_enter_as_logarithms_and_slices_without_tumour_at_zero() -> None:
    scale = condition_scales(TABLE, ["area", "position"])
    deviation = np.std([4, 5, 6])
    torch.testing.assert_close(scale[0], torch.tensor([5.0, deviation]).float())
    standardised = standardise_conditions(TABLE, ["area", "position"], scale)
    expected = torch.tensor([-1, 0, 1, 0, 0, 0]) / deviation
    torch.testing.assert_close(standardised[:, 0], expected.float())
    assert abs(float(standardised[:, 1].mean())) < 1e-6


def test_the_distribution_holds_means_and_covariances_of_each_label() -> None:
    generator = torch.Generator().manual_seed(0)
    conditions = torch.randn(400, 2, generator=generator) @ torch.tensor([[1.0, 0.5], [0.0, 0.3]])
    labels = torch.arange(400) % 2
    means, roots = condition_distribution(conditions, labels)
    for label in (0, 1):
        some = conditions[labels == label]
        torch.testing.assert_close(means[label], some.mean(0))
        torch.testing.assert_close(
            roots[label] @ roots[label].T, torch.cov(some.T), atol=1e-4, rtol=1e-3
        )


def test_a_conditioned_generator_carries_the_distribution_of_its_training_slices(
    workspace: Path,
) -> None:
    write_params(workspace, gan={"conditions": ["area", "position"], "steps": 2})
    train_gan.main("0")
    shape = json.loads((OUT / "config.json").read_text())["architecture"]
    assert shape["conditions"] == ["area", "position"]
    weights = load_file(OUT / "generator.safetensors")
    Generator(Architecture(**shape)).load_state_dict(weights)
    table = pd.read_parquet("data/slices/slices.parquet").query("partition_0 == 'train'")
    torch.testing.assert_close(
        weights["condition_scale"], condition_scales(table, ["area", "position"])
    )
    assert weights["condition_mean"][0, 0] == 0  # no area where there is no tumour


def started(path: Path) -> dict[str, object]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"start_from": str(path), "start_sha256": digest}


def test_a_training_starts_from_the_networks_of_an_earlier_one(workspace: Path) -> None:
    train_gan.main("0")
    before = NETWORKS.rename("earlier.safetensors")
    still = {"steps": 1, "learning_rate": 1e-12, "discriminator_rate": 1e-12, "seed": 9}
    write_params(workspace, gan=started(before) | still)
    train_gan.main("0")
    old, new = load_file(before), load_file(NETWORKS)
    assert old.keys() == new.keys()
    learnt = [name for name in old if "running" not in name and "batches" not in name]
    assert all(torch.allclose(old[name], new[name], atol=1e-9) for name in learnt)
    digest = json.loads((OUT / "config.json").read_text())["started_from"]
    assert digest == started(before)["start_sha256"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_sha256": "0" * 64}, r"has SHA-256 [0-9a-f]{64}, train_gan.start_sha256 says 000"),
        ({"start_from": "nowhere.safetensors"}, "nowhere.safetensors.*No such file"),
        ({"width": 8}, "networks with width 4, .* ask for 8"),
    ],
)
def test_other_networks_than_those_meant_are_one_clear_line(
    workspace: Path, changes: dict[str, object], message: str
) -> None:
    write_params(workspace, gan={"steps": 1})
    train_gan.main("0")
    before = NETWORKS.rename("earlier.safetensors")
    write_params(workspace, gan=started(before) | changes)
    with pytest.raises(InputError, match=message):
        train_gan.main("0")


def test_a_file_that_holds_no_networks_is_one_clear_line(workspace: Path) -> None:
    other = Path("other.safetensors")
    other.write_bytes(b"half a file")
    write_params(workspace, gan=started(other))
    with pytest.raises(InputError, match=r"is no networks\.safetensors"):
        train_gan.main("0")
