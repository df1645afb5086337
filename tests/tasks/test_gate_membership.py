"""The membership attack finds a generator that copies, and is at chance on fresh patients."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.dcgan import Architecture, Generator
from tasks.common.cohort_counts import count_cohort
from tasks.common.membership_table import membership_rows, membership_sentence
from tasks.common.slice_set import SliceSet
from tasks.gate.__main__ import attack_weights, mark_shown
from tasks.gate.generator_attack import NAME, attack_generator, choose_slices
from tasks.gate.membership import MembershipAttack, attack_images, attack_patients
from tasks.gate.slice_features import SliceFeatures, compute_slice_features
from tasks.measures.auroc_interval import auroc_interval
from tasks.measures.rank_auroc import auroc
from tasks.params.gate import Gate
from tasks.schemas.metrics import GateMetrics
from tests.tasks.fake_run import Run, write
from tests.tasks.gate_fixtures import real
from tests.tasks.known_generators import copier
from tests.tasks.synthetic_cohort import as_synthetic

DIMENSIONS, EACH = 12, 6


def gaussian(patients: int, rng: np.random.Generator, name: str) -> SliceFeatures:
    """Slices that scatter around patients, who scatter around nothing."""
    centres = rng.normal(size=(patients, 1, DIMENSIONS))
    points = (centres + 0.5 * rng.normal(size=(patients, EACH, DIMENSIONS))).reshape(-1, DIMENSIONS)
    return features_at(points, np.repeat([f"{name}{n}" for n in range(patients)], EACH))


def features_at(points: np.ndarray, subjects: np.ndarray) -> SliceFeatures:
    table = pd.DataFrame({"subject": subjects, "label": 1})
    others = dict.fromkeys(
        ("images", "spectra", "outlines", "tumors", "histograms", "bodies", "areas", "sites"),
        np.zeros((len(points), 1)),
    )
    return SliceFeatures(table=table, features=points, coarse=points.astype(np.float32), **others)


def test_fresh_draws_are_at_chance_and_the_interval_covers_it() -> None:
    covered, areas = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        train, val = gaussian(20, rng, "t"), gaussian(12, rng, "v")
        for attack in attack_images(gaussian(30, rng, "s"), train, val).values():
            assert attack.auroc is not None and attack.ci95 is not None
            areas.append(attack.auroc)
            covered += attack.ci95[0] <= 0.5 <= attack.ci95[1]
    assert abs(np.mean(areas) - 0.5) < 0.03
    assert covered >= 0.9 * len(areas)


@pytest.mark.parametrize(("noise", "least"), [(0.0, 1.0), (0.2, 0.95)])
def test_a_copier_is_found_also_when_it_adds_noise(noise: float, least: float) -> None:
    rng = np.random.default_rng(3)
    train, val = gaussian(20, rng, "t"), gaussian(12, rng, "v")
    copies = train.features + noise * rng.normal(size=train.features.shape)
    for attack in attack_images(features_at(copies, train.table["subject"]), train, val).values():
        assert attack.auroc is not None and attack.ci95 is not None
        assert attack.auroc >= least
        assert attack.ci95[0] > 0.5


def test_the_attack_on_images_finds_copies_of_simulated_patients() -> None:
    seen, unseen = real().train_features, real().val_features
    copies = seen.select(np.arange(len(seen.table)) % 2 == 0)
    for attack in attack_images(copies, seen, unseen).values():
        assert attack.ci95 is not None and attack.ci95[0] > 0.5, attack
    # Noise moves a slice far away in the features of a network, but not among blurred pixels.
    noisy = copier(real().train, "noise", 80, np.random.default_rng(4))
    noisy_features = compute_slice_features(as_synthetic(noisy), device="cpu")
    attack = attack_images(noisy_features, seen, unseen)["images, by pixels"]
    assert attack.ci95 is not None and attack.ci95[0] > 0.5, attack


def test_members_are_all_patients_whom_the_generator_saw_and_nobody_else() -> None:
    rng = np.random.default_rng(3)
    train, val = gaussian(20, rng, "t"), gaussian(12, rng, "v")
    subjects = train.table["subject"]
    table = train.table.assign(
        marked_synthetic=subjects == "t0",  # no patient
        label=np.where(subjects == "t1", -1, 1),
    )
    slices = SliceSet(np.zeros((len(table), 1, 1, 1)), np.zeros((len(table), 1, 1)), table)
    for without_outlines, members in ((True, 19), (False, 18)):
        shown = replace(train, table=mark_shown(slices, without_outlines=without_outlines).table)
        attack = attack_images(gaussian(30, rng, "s"), shown, val)
        assert {each.members for each in attack.values()} == {members}


def test_a_generator_that_copies_patients_without_outlines_is_found() -> None:
    rng = np.random.default_rng(3)
    train, val = gaussian(20, rng, "t"), gaussian(12, rng, "v")
    hidden = train.table["subject"].isin([f"t{n}" for n in range(12)]).to_numpy()
    train = replace(train, table=train.table.assign(label=np.where(hidden, -1, 1)))
    copies = features_at(train.features[hidden], train.table["subject"][hidden].to_numpy())
    for attack in attack_images(copies, train, val).values():
        assert attack.ci95 is not None and attack.ci95[0] > 0.5


class Album(nn.Module):
    """A generator that draws mixtures of some images: of one alone where z points at it."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        flat = torch.from_numpy(images).flatten(1)
        keys = torch.randn(len(flat), 16, generator=torch.Generator().manual_seed(0))
        self.register_buffer("flat", flat)
        self.register_buffer("keys", nn.functional.normalize(keys, dim=1))
        self.side = images.shape[-1]
        self.architecture = SimpleNamespace(latent=16)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        weights = torch.softmax(4 * z @ self.get_buffer("keys").T, 1)
        images = (weights @ self.get_buffer("flat")).reshape(-1, 1, self.side, self.side)
        return torch.cat([images, torch.zeros_like(images)], 1)


def small_slices(patients: int, seed: int, name: str) -> SliceSet:
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 1, (patients * 3, 1, 16, 16)).astype(np.float32)
    subjects = np.repeat([f"{name}{n}" for n in range(patients)], 3)
    table = pd.DataFrame({"subject": subjects, "label": np.tile([0, 1, 1], patients)})
    return SliceSet(images, np.zeros((len(images), 16, 16), np.uint8), table)


def test_a_generator_that_holds_its_training_slices_is_found_and_a_stranger_is_not() -> None:
    train, val, strangers = (
        small_slices(n, s, name) for s, (n, name) in enumerate([(10, "t"), (8, "v"), (10, "x")])
    )
    attack = attack_generator(Album(train.images), train, val, steps=20, seed=1)  # type: ignore[arg-type]
    assert attack.auroc == 1.0
    assert attack.ci95 is not None and attack.ci95[0] > 0.5
    assert (attack.members, attack.non_members) == (10, 8)
    unlabelled = replace(train, table=train.table.assign(label=-1))
    hidden = attack_generator(Album(train.images), unlabelled, val, steps=20, seed=1)  # type: ignore[arg-type]
    assert (hidden.auroc, hidden.members) == (1.0, 10)
    chance = attack_generator(Album(strangers.images), train, val, steps=20, seed=1)  # type: ignore[arg-type]
    assert chance.ci95 is not None and chance.ci95[0] <= 0.5 <= chance.ci95[1]


def test_slices_are_chosen_by_patient_and_evenly_spaced() -> None:
    slices = small_slices(2, 0, "t")
    slices = SliceSet(
        np.concatenate([slices.images] * 3), np.concatenate([slices.masks] * 3),
        pd.concat([slices.table] * 3, ignore_index=True),
    )  # fmt: skip
    assert choose_slices(slices).table["subject"].value_counts().to_dict() == {"t0": 4, "t1": 4}


def test_only_the_generator_that_made_the_slices_is_attacked(tmp_path: Path) -> None:
    architecture = Architecture(size=16, width=4, latent=8)
    weights = tmp_path / "generator.safetensors"
    save_file(Generator(architecture).state_dict(), weights)
    config = {"kind": "dcgan", "architecture": {"size": 16, "width": 4, "latent": 8}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    train, val = small_slices(3, 0, "t"), small_slices(3, 1, "v")
    gate = Gate(seed=1, threads=1, membership_steps=2)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (attack,) = attack_weights(tmp_path, digest, train, val, gate).values()
    assert attack.auroc is not None
    assert attack_weights(tmp_path, digest, train, val, gate) == {NAME: attack}  # it repeats
    assert attack_weights(tmp_path, "0" * 64, train, val, gate) == {}


def test_the_interval_is_symmetric_and_never_empty_and_covers() -> None:
    for area in (0.0, 0.2, 0.5, 1.0):
        low, high = auroc_interval(area, 26, 15)
        mirrored = auroc_interval(1 - area, 26, 15)
        assert 0 <= low <= area <= high <= 1
        assert low < high
        assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        area = auroc(rng.normal(1.19, 1, 12), rng.normal(0, 1, 8))  # the true one is 0.8
        low, high = auroc_interval(area, 12, 8)
        hits += low <= 0.8 <= high
    assert hits >= 0.92 * 300


def test_too_few_patients_give_a_reason_in_place_of_a_figure() -> None:
    one, two = (
        gaussian(1, np.random.default_rng(0), "t"),
        gaussian(2, np.random.default_rng(1), "v"),
    )
    attack = attack_patients(np.zeros(18), one.table, two.table, method="")
    assert attack.auroc is None
    assert attack.not_measured == "1 training and 2 validation patients, 2 of each are needed"


def test_report_and_card_give_the_figure_beside_guessing_and_hide_few_patients(
    tmp_path: Path,
) -> None:
    from tests.tasks.test_release import release
    from tests.tasks.test_report import Page, run_stage

    write(tmp_path, Run(synthetic=2, accept_share=1.0, size=16))
    path = tmp_path / "data/gate/0/metrics.json"
    metrics = json.loads(path.read_text())
    attacks = {
        "images, by pixels": MembershipAttack(0.93, (0.8, 0.98), 26, 15, "m"),
        "generator, by reconstruction": MembershipAttack(0.52, (0.3, 0.7), 26, 3, "m"),
    }
    metrics["membership"] = {name: attack.as_json() for name, attack in attacks.items()}
    path.write_text(json.dumps(metrics))
    gates = {"0": GateMetrics.model_validate(metrics)}
    partitions = ["train"] * 26 + ["val"] * 15 + ["test"] * 20
    slices = pd.DataFrame(
        {"subject": [f"s{n}" for n in range(61)], "label": 1, "partition_0": partitions}
    )
    cohort = count_cohort(slices, gates, 5)
    rows = membership_rows(gates, cohort)
    assert rows[0][2:7] == ["0.93", "0.80 to 0.98", "0.50", "26", "15"]
    assert rows[1][2:7] == ["not shown", "not shown", "0.50", "not shown", "<5"]
    assert rows[1][7] == "not shown"
    assert "0.52" not in membership_sentence("0", gates, cohort)
    cut = {
        "membership": {name: each for name, each in metrics["membership"].items() if "im" in name}
    }
    few = {"0": GateMetrics.model_validate(metrics | cut)}
    assert "0.80 to 0.98" in membership_sentence("0", few, count_cohort(slices, few, 5))
    release(tmp_path)
    card = (tmp_path / "data/release/DATACARD.md").read_text()
    run_stage(tmp_path)
    page = Page((tmp_path / "data/report.html").read_text()).words
    for text in (card, page):
        assert "0.80 to 0.98" in text
        assert "training patients are told from others better than by guessing" in text
        assert "0.30 to 0.70" not in text
    assert "pseudonymised, not anonymous" in card
