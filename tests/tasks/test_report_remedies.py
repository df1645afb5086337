"""After a rejection, the report says which key of params.yaml to change and what that costs."""

from pathlib import Path

import pandas as pd
import pytest

from tasks.params.train_gan import TrainGan
from tasks.report.remedies import Remedy, remedies
from tasks.schemas.metrics import GateMeasure, GateMetrics, SliceCounts
from tests.tasks.report_fixtures import report

CONFIG = TrainGan(seed=3, threads=1, steps=2400)
STILL_BETTER = pd.DataFrame({"step": [600, 1200, 2400], "event": ["best", None, "best"]})
BETTER_BEFORE = pd.DataFrame({"step": [600, 1200, 2400], "event": [None, "best", None]})


def gate(*reasons: str, **ratios: float) -> GateMetrics:
    names = [reason.partition(":")[0] for reason in reasons if " times" in reason]
    measures = {
        name: GateMeasure(ratio=ratio, limit=(0.75, 1.2), n=100, subsamples=20)
        for name, ratio in (dict.fromkeys(names, 0.6) | ratios).items()
    }
    return GateMetrics(
        verdict="rejected", reasons=list(reasons), measures=measures,
        images=SliceCounts(n=600, accepted=200, memorised=0),
    )  # fmt: skip


def advice(metrics: GateMetrics, config: TrainGan = CONFIG, history=STILL_BETTER) -> list[Remedy]:
    return remedies({"0": metrics}, config, [history])


@pytest.mark.parametrize(
    ("reason", "keys"),
    [
        ("too few: 283 of 600 images are accepted", ["train_gan.steps"]),
        ("FD(a network): 6.10 times that of real slices", ["train_gan.steps"]),
        ("mask_contrast: 0.78 times", ["train_gan.steps", "train_gan.conditions"]),
        ("tumor_size: 5.00 times", ["train_gan.steps", "train_gan.conditions"]),
        ("site_coverage: 0.20 times", ["train_gan.steps", "train_gan.conditions"]),
        ("collapsed: 60% of 600 images have a near-copy", ["train_gan.seed"]),
        ("memorised: 50 of 600 images", ["train_gan.steps", "slices.train_patients"]),
        ("label_1: not measured: 7 validation slices", []),
    ],
)
def test_each_reason_names_the_keys_to_change(reason, keys):
    assert [remedy.key for remedy in advice(gate(reason))] == keys


def test_each_key_is_named_once():
    keys = [
        remedy.key
        for remedy in advice(
            gate("too few: 1", "FD(x): 6 times", "mask_contrast: 0.7 times", "tumor_size: 5 times")
        )
    ]
    assert keys == ["train_gan.steps", "train_gan.conditions"]


def test_likeness_above_its_range_means_copies_and_below_it_too_little_training():
    reason = "nearest_ssim: 1.30 times"
    more, less = (advice(gate(reason, nearest_ssim=ratio))[0] for ratio in (0.6, 1.3))
    assert more.wanted == "7,200"
    assert less.wanted == "1,200"


def test_more_steps_are_advised_by_whether_the_last_ones_gained_anything():
    reason = gate("too few: 283 of 600 images are accepted")
    assert "still getting nearer" in advice(reason)[0].why
    assert "more training patients" in advice(reason, history=BETTER_BEFORE)[0].why


def test_conditions_that_are_set_are_not_advised_again():
    config = TrainGan(seed=3, threads=1, steps=2400, conditions=("area", "site"))
    by_key = {remedy.key: remedy for remedy in advice(gate("tumor_size: 5 times"), config)}
    assert by_key["train_gan.conditions"].now == "[area, site]"
    assert by_key["train_gan.conditions"].wanted == "[area, site, position]"
    assert [remedy.key for remedy in advice(gate("site_coverage: 0.2 times"), config)] == [
        "train_gan.steps"
    ]


def test_slices_from_elsewhere_get_no_advice_on_a_training_that_was_not_ours():
    assert advice(gate("too few: 1"), history=pd.DataFrame()) == []


def test_the_page_of_a_rejection_shows_key_value_and_cost(tmp_path: Path) -> None:
    _, page = report(tmp_path, verdict="rejected")
    assert "What to change in params.yaml , and what it costs:" in page.words
    assert "train_gan.steps : 7,200 in place of 2,400: the generator was still" in page.words
    assert "Cost: training takes three times as long." in page.words
