"""Asking a conditioned generator for an area and a position."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from models.dcgan import Architecture, Generator
from tasks.generate import __main__ as generate
from tasks.generate.load_generator import load_generator
from tasks.generate.sample_generator import SamplingRequest, requested_conditions, sample_generator
from tasks.stage.errors import InputError
from tasks.train_gan import __main__ as train_gan
from tests.tasks.train_gan_fixtures import SIZE, fake_generator, write_params, write_workspace

WISH = SamplingRequest(
    count=20, seed=1, tumor_share=0.5, min_island_px=1, min_tumor_px=0, attempts=1
)
LABELS = torch.tensor([0, 1, 0, 1])


def conditioned() -> Generator:
    torch.manual_seed(0)
    generator = Generator(
        Architecture(size=SIZE, latent=8, width=4, conditions=["area", "position"])
    )
    scale = torch.tensor([[5.0, 0.5], [10.0, 20.0]])  # mean and deviation of log mm² and of mm
    generator.get_buffer("condition_scale").copy_(scale)
    return generator.eval()


def asked(**values: float | str) -> SamplingRequest:
    return SamplingRequest(**(vars(WISH) | values))  # type: ignore[arg-type]


def test_requested_conditions_are_standardised_as_in_training_and_the_others_come_from_z() -> None:
    generator, z = conditioned(), torch.randn(4, 8)
    free = requested_conditions(generator, z, LABELS, WISH)
    assert free is not None and torch.equal(free, generator.conditions(z, LABELS))
    some = requested_conditions(generator, z, LABELS, asked(tumor_area_mm2=float(math.exp(6))))
    assert some is not None and torch.equal(some[:, 1], free[:, 1])
    torch.testing.assert_close(some[:, 0], torch.where(LABELS == 1, 2.0, free[:, 0]))
    placed = requested_conditions(generator, z, LABELS, asked(position_mm=-10.0))
    assert placed is not None and torch.equal(placed[:, 1], torch.full((4,), -1.0))


def test_a_generator_without_conditions_gets_none() -> None:
    plain = Generator(Architecture(size=SIZE, latent=8, width=4))
    assert requested_conditions(plain, torch.randn(4, 8), LABELS, WISH) is None


def test_a_requested_area_changes_tumour_slices_only() -> None:
    generator, cpu = conditioned(), torch.device("cpu")
    torch.nn.init.normal_(generator.head.weight, 0, 2)
    free, large = (
        {sample.seed: sample for sample in sample_generator(generator, request, cpu)}
        for request in (WISH, asked(tumor_area_mm2=4000.0))
    )
    shared = free.keys() & large.keys()
    same = {seed: (free[seed].image == large[seed].image).all() for seed in shared}
    assert {free[seed].label for seed in shared} == {0, 1}
    assert all(same[seed] == (free[seed].label == 0) for seed in shared)


def test_a_condition_that_the_generator_never_learnt_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_generator(tmp_path)
    write_params(tmp_path, tumor_area_mm2=500)
    with pytest.raises(InputError, match=r"tumor_area_mm2 is 500.*add area to train_gan\.cond"):
        generate.main("0")


def test_the_place_of_a_slice_without_label_changes_nothing_of_the_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, gan={"conditions": ["area", "position"]})
    path = tmp_path / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    weights = []
    for position_mm in (0.0, 1000.0):
        table.loc[table["row"] < 4, ["label", "position_mm"]] = [-1, position_mm]  # one trains
        table.astype({"label": "int64"}).to_parquet(path, index=False)
        train_gan.main("0")
        weights.append((tmp_path / "data/gan/0/generator.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.verify
def test_after_some_training_tumours_have_the_requested_area(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    training = {"steps": 300, "width": 8, "batch": 16, "latent": 16, "watch_every": 300}
    write_workspace(tmp_path, gan=training | {"conditions": ["area"]})
    train_gan.main("0")
    generator = load_generator(tmp_path / "data/gan/0", torch.device("cpu"))
    asked_px, drawn_px = [], []
    for area in (27, 36, 45):  # pixels of 9 mm²; the training discs have 21 to 51
        request = asked(count=64, tumor_share=1.0, tumor_area_mm2=9.0 * area)
        masks = [
            sample.mask for sample in sample_generator(generator, request, torch.device("cpu"))
        ]
        asked_px += [area] * len(masks)
        drawn_px += [int(mask.sum()) for mask in masks]
    assert spearmanr(asked_px, drawn_px).statistic > 0.6
