"""The site as a condition of the generator."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from models.dcgan import Architecture, Generator
from tasks.generate import __main__ as generate
from tasks.generate.sample_generator import requested_conditions
from tasks.stage.errors import InputError
from tasks.train_gan import __main__ as train_gan
from tests.tasks.test_generate_conditions import asked
from tests.tasks.train_gan_fixtures import OUT, SIZE, write_params, write_workspace

TABLE, IMAGES = (Path("data/slices") / name for name in ("slices.parquet", "images.npy"))
BRIGHT = [f"sub-{n:02}" for n in (0, 4, 8)]  # of ten training patients
LONELY = "sub-12"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three training patients come from site B, whose heads are brighter; the others from A."""
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, gan={"conditions": ["site", "area"], "steps": 1})
    table, images = pd.read_parquet(TABLE), np.load(IMAGES)
    bright = table["subject"].isin(BRIGHT)
    head = (images > -0.9) & bright.to_numpy()[:, None, None, None]
    np.save(IMAGES, np.where(head, images + 0.25, images - 0.25 * (images > -0.9)).clip(-1, 1))
    table["site"] = np.where(bright, "B", "A")
    table.to_parquet(TABLE, index=False)
    return Path.cwd()


def test_a_generator_carries_the_sites_and_each_labels_shares_of_them(workspace: Path) -> None:
    table = pd.read_parquet(TABLE)
    table.loc[table["subject"] == LONELY, "site"] = "C"  # one patient: no site to ask for
    table.to_parquet(TABLE, index=False)
    train_gan.main("0")
    shape = json.loads((OUT / "config.json").read_text())["architecture"]
    assert shape["conditions"] == ["area", "site=A", "site=B"]
    weights = load_file(OUT / "generator.safetensors")
    Generator(Architecture(**shape)).load_state_dict(weights)
    torch.testing.assert_close(weights["site_shares"], torch.tensor([[0.6, 0.3]] * 2))
    assert weights["condition_mean"].shape == (2, 1)


def test_sites_that_all_have_one_patient_are_no_condition(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A preset or the default asks for the site, whatever the cohort."""
    table = pd.read_parquet(TABLE)
    table.assign(site=table["subject"]).to_parquet(TABLE, index=False)
    train_gan.main("0")
    shape = json.loads((OUT / "config.json").read_text())["architecture"]
    assert shape["conditions"] == ["area"]
    said = "the site is no condition: none of the 10 sites of the outlined training slices has 2"
    assert said in capsys.readouterr().err


def test_sites_need_places_of_z(workspace: Path) -> None:
    write_params(workspace, gan={"conditions": ["site"], "latent": 2})
    with pytest.raises(InputError, match=r"latent is 2, .* take 2 of its places; make it 3"):
        train_gan.main("0")


def generator(**changes: Any) -> Generator:
    names = ["position", "site=A", "site=B", "site=C"]
    built = Generator(Architecture(size=SIZE, latent=8, width=4, conditions=names))
    built.get_buffer("site_shares").copy_(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.6, 0.2]]))
    return built.eval()


def test_sites_are_drawn_in_the_shares_of_the_label_and_a_slice_has_one_at_most() -> None:
    z = torch.randn(40_000, 8, generator=torch.Generator().manual_seed(0))
    for label, shares in ((0, [0.5, 0.25, 0.25]), (1, [0.1, 0.6, 0.2])):
        drawn = generator().conditions(z, torch.full((40_000,), label))[:, 1:]
        assert drawn.mean(0).tolist() == pytest.approx(shares, abs=0.01)
        assert set(drawn.sum(1).tolist()) <= {0.0, 1.0}
        if label:  # a tenth came from sites without a name
            assert float((drawn.sum(1) == 0).float().mean()) == pytest.approx(0.1, abs=0.01)


def test_a_requested_site_is_that_of_every_slice_and_changes_nothing_else() -> None:
    z, labels = torch.randn(6, 8), torch.arange(6) % 2
    free = requested_conditions(generator(), z, labels, asked())
    placed = requested_conditions(generator(), z, labels, asked(site="B"))
    assert free is not None and placed is not None
    assert torch.equal(placed[:, 1:], torch.tensor([[0.0, 1.0, 0.0]] * 6))
    assert torch.equal(placed[:, 0], free[:, 0])


def test_a_site_that_the_generator_does_not_know_is_one_clear_line(workspace: Path) -> None:
    train_gan.main("0")
    write_params(workspace, site="Z")
    with pytest.raises(InputError, match=r"site is Z, but data/gan/0 learnt the sites A, B; ask"):
        generate.main("0")
    write_params(workspace, gan={"steps": 1}, site="A")
    train_gan.main("0")
    with pytest.raises(InputError, match=r"site is A, .* add site to train_gan\.conditions"):
        generate.main("0")


@pytest.mark.verify
def test_after_some_training_sites_are_drawn_in_their_shares_and_on_request(
    workspace: Path,
) -> None:
    training = {"steps": 400, "width": 8, "batch": 16, "latent": 16, "watch_every": 400}
    training |= {"conditions": ["site"]}
    write_params(workspace, gan=training, count=200)
    train_gan.main("0")

    def brightness() -> np.ndarray:
        generate.main("0")
        images = np.load("data/synthetic/0/images.npy").astype(np.float32)[:, 0]
        return np.array([np.median(image[image > -0.8]) for image in images])

    middle, means = -0.2, {}  # dark heads lie at -.65 to -.25, bright ones at -.15 to .25
    free = brightness()
    for site in ("A", "B"):
        write_params(workspace, gan=training, count=200, site=site)
        means[site] = brightness()
    assert (means["A"] < middle).mean() > 0.9 and (means["B"] > middle).mean() > 0.9
    assert (free > middle).mean() == pytest.approx(0.3, abs=0.12)
