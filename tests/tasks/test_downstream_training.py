"""What the networks of an arm are trained on, and by which recipe."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tasks.downstream import train_and_test
from tasks.downstream.__main__ import import_task, main
from tasks.params.downstream import ClassifyTraining, SegmentTraining, TaskTraining
from tasks.training.balanced_batches import balanced_batches
from tasks.training.fit import fit, predict_probabilities
from tests.tasks import downstream_fixtures
from tests.tasks.downstream_fixtures import table


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    downstream_fixtures.write(tmp_path)
    return tmp_path


def captured(monkeypatch, task: str, arm: str) -> list[tuple[dict, list]]:
    """Initial weights and batches of each run of an arm, as training received them."""
    seen = []
    fit = train_and_test.fit

    def spy(network, loss, batches, *rest, **options):
        kept = list(batches)
        seen.append(({k: v.clone() for k, v in network.state_dict().items()}, kept))
        return fit(network, loss, iter(kept), *rest, **options)

    monkeypatch.setattr(train_and_test, "fit", spy)
    main(task, arm)
    monkeypatch.setattr(train_and_test, "fit", fit)
    return seen


def test_arms_share_initial_weights_and_the_order_of_their_common_slices(root, monkeypatch):
    downstream_fixtures.write(root, patients=12)
    real = captured(monkeypatch, "classify", "real")
    mixed = captured(monkeypatch, "classify", "real+synthetic")
    alone = captured(monkeypatch, "classify", "synthetic")
    for (weights, first), (others, second), (_, third) in zip(real, mixed, alone, strict=True):
        assert all(torch.equal(value, others[name]) for name, value in weights.items())
        for a, b, c in zip(first, second, third, strict=True):
            half = len(a[0]) // 2
            assert torch.equal(a[0][:half], b[0][:half])  # the real half
            assert torch.equal(b[0][half:], c[0][half:])  # the added half
    weights, others = real[0][0], real[1][0]
    assert not all(torch.equal(value, others[name]) for name, value in weights.items())


def test_classical_arms_draw_the_same_augmentation(root, monkeypatch):
    downstream_fixtures.write(root, seeds=(0,), patients=12)
    real = captured(monkeypatch, "classify", "real+classical")[0][1]
    mixed = captured(monkeypatch, "classify", "real+classical+synthetic")[0][1]
    plain = captured(monkeypatch, "classify", "real")[0][1]
    half = len(real[0][0]) // 2
    assert torch.equal(real[0][0][:half], mixed[0][0][:half])
    assert not torch.equal(real[0][0][:half], plain[0][0][:half])


def test_pretraining_sees_added_slices_first_and_real_ones_after(root, monkeypatch):
    downstream_fixtures.write(root, seeds=(0,), patients=12)
    mixed = captured(monkeypatch, "classify", "synthetic")[0][1]
    real = captured(monkeypatch, "classify", "real")[0][1]
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["downstream"]["classify"]["strategy"] = "pretrain"
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    staged = captured(monkeypatch, "classify", "real+synthetic")[0][1]
    for step, (images, _, _) in enumerate(staged):
        assert torch.equal(images, (mixed if step < 4 else real)[step][0])


@pytest.mark.parametrize("prior", [0.05, 0.5, 0.9])
def test_batches_are_balanced_whatever_the_sources_priors(prior):
    rng = np.random.default_rng(0)
    first = (rng.random(60) < 0.5).astype(int)
    second = (np.arange(100) < 100 * prior).astype(int)
    drawn = list(balanced_batches(first, second, steps=50, batch=16, seed=(3, 4)))
    assert len(drawn) == 50
    for a, b in drawn:
        assert len(a) == len(b) == 8
        assert first[a].sum() == second[b].sum() == 4
    used = np.concatenate([a for a, _ in drawn])
    counts = np.bincount(used, minlength=60)[first == 1]
    assert counts.max() - counts.min() <= 1  # every slice as often as any other of its label


def test_both_networks_learn_an_easy_tumour(root):
    downstream_fixtures.write(root, steps=40, seeds=(0,))
    main("classify", "real")
    main("segment", "real")
    patients = table("classify", "real", "patients")
    assert patients.loc[patients["metric"] == "auroc", "value"].mean() > 0.9
    patients = table("segment", "real", "patients")
    assert patients.loc[patients["metric"] == "dice", "value"].mean() > 0.5


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_a_network_that_diverges_learnt_nothing_and_ends_nothing(root, monkeypatch, task):
    """No judgement of it is a number."""
    module = import_task(task)
    downstream_fixtures.write(root, steps=8, seeds=(0,), patients=12)
    monkeypatch.setattr(module, "loss", lambda logits, *_: logits.mean() * float("nan"))
    main(task, "real")
    runs = table(task, "real", "runs")
    assert runs["val_metric"].tolist() == [0.0] and not runs["learnt"].any()
    assert len(table(task, "real", "predictions")) > 0


def test_the_tested_network_is_the_average_of_its_last_weights(root):
    """Every step's weights count with the decay that is asked for; 0 takes the last ones."""
    weights = []

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            weights.append(float(self.slope.detach()))
            return images.mean((1, 2, 3))[:, None] * self.slope

    def run(ema):
        weights.clear()
        network = Line()
        images = torch.ones(4, 1, 8, 8)
        batches = [(images, images, torch.ones(4, 1))] * 40
        fit(
            network, lambda logits, *_: -logits.mean(), batches, lambda _: 0.5, images,
            training=TaskTraining(steps=40, ema=ema, evaluations=1),
        )  # fmt: skip
        return float(network.slope.detach())

    last = run(0.0)
    assert all(later >= earlier for earlier, later in pairwise(weights[:40]))
    averaged = run(0.9)
    steps = [*weights[1:40], last]
    expected = 0.0
    for number, value in enumerate(steps, start=1):
        decay = min(0.9, number / (number + 9))
        expected = decay * expected + (1 - decay) * value
    assert averaged == pytest.approx(expected, rel=1e-4) and averaged < last


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_a_slice_and_its_mirror_image_get_mirrored_predictions(task):
    network = import_task(task).build_network(
        1, ClassifyTraining(network="resnet") if task == "classify" else SegmentTraining(), seed=0
    )
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    straight = predict_probabilities(network.eval(), images)
    mirrored = predict_probabilities(network, images.flip(-1))
    expected = straight.flip(-1) if task == "segment" else straight
    assert torch.allclose(mirrored, expected, atol=1e-6)


def test_bfloat16_stays_near_float32(root):
    downstream_fixtures.write(root, seeds=(0,), patients=12)
    main("segment", "real")
    exact = pd.read_csv("data/downstream/segment-real/history.csv")["train_loss"]
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["downstream"]["precision"] = "bf16"
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    main("segment", "real")
    rounded = pd.read_csv("data/downstream/segment-real/history.csv")["train_loss"]
    assert (exact != rounded).any()
    assert np.allclose(exact, rounded, rtol=0.02)
