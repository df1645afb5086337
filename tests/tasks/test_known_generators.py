"""The gate is right about generators whose worth is known, and says why."""

import numpy as np
import pandas as pd
import pytest

from tasks.common.slice_set import SliceSet
from tasks.gate import memorisation
from tasks.gate.evaluate import evaluate
from tasks.gate.reference import prepare_reference
from tasks.gate.slice_features import compute_slice_features
from tasks.params.gate import Gate
from tests.tasks.gate_fixtures import (
    CONFIG,
    judged,
    judged_damaged,
    judged_one_site,
    oracle,
    real,
    rng,
)
from tests.tasks.known_generators import (
    CHANGES,
    PAIRS,
    collapsed,
    copier,
    generators,
    transplanted,
)
from tests.tasks.synthetic_cohort import as_synthetic, simulated


def called(slices: SliceSet) -> dict[str, np.ndarray]:
    """What each detector of copies says of the slices."""
    similarity = memorisation.measure_similarity(
        slices,
        compute_slice_features(slices, device="cpu"),
        (real().train, real().train_features),
        (real().val, real().val_features),
        max_shift=CONFIG.max_shift,
    )
    return memorisation.detected_copies(similarity, real().thresholds)


def share(slices: SliceSet) -> float:
    """How many of the slices any detector calls copies."""
    return float(np.any(list(called(slices).values()), axis=0).mean())


@pytest.mark.parametrize(
    "hows",
    [
        pytest.param(("noise", "flip+shift", "blur+noise"), id="three"),
        pytest.param(("as-is", *CHANGES, *PAIRS), id="all", marks=pytest.mark.verify),
    ],
)
def test_copies_are_found_however_they_were_changed(hows: tuple[str, ...]) -> None:
    n = 8 if len(hows) == 3 else 40
    shares = {how: share(copier(real().train, how, n, rng())) for how in hows}
    assert min(shares.values()) >= 0.95, shares


def test_a_copier_is_called_a_copier() -> None:
    result = judged(copier(real().train, "shift+noise", 30, rng()))
    assert result.verdict == "rejected"
    assert result.reasons[0].startswith("memorised")
    assert result.images["memorised"] >= 0.95 * result.images["n"]
    assert result.samples["memorised_by"].str.contains("correlation").mean() >= 0.95


def test_a_tumour_in_another_brain_is_found_by_the_tumour_alone() -> None:
    detected = called(transplanted(oracle(), real().train, 30, rng()))
    assert detected["tumor"].mean() >= 0.6, detected["tumor"].mean()
    assert detected["correlation"].mean() <= 0.2


@pytest.mark.verify
@pytest.mark.timeout(1200)
def test_no_single_detector_suffices() -> None:
    """Turned by 8 degrees, scaled by 5 %, blended: found as far as it goes, by different ones."""
    hard = ("rotate", "scale", "blend")
    detected = {how: called(copier(real().train, how, 60, rng())) for how in hard}
    rates = {
        how: {name: hit.mean() for name, hit in by_detector.items()}
        for how, by_detector in detected.items()
    }
    assert rates["scale"]["ssim"] >= 0.9, rates
    assert rates["blend"]["ssim"] > rates["blend"]["correlation"] + 0.2, rates
    assert rates["rotate"]["correlation"] > rates["rotate"]["ssim"] + 0.1, rates
    together = {
        how: np.any(list(by_detector.values()), axis=0).mean()
        for how, by_detector in detected.items()
    }
    assert together["rotate"] >= 0.25, together
    assert together["blend"] >= 0.3, together


def test_planted_copies_are_found_and_the_innocent_left_alone() -> None:
    planted = copier(real().train, "shift+noise", 20, rng())
    innocent = oracle().select(np.arange(60))
    mixed = SliceSet(
        np.concatenate([innocent.images, planted.images]),
        np.concatenate([innocent.masks, planted.masks]),
        pd.concat([innocent.table, planted.table], ignore_index=True),
    )
    result = judged(mixed)
    guilty = (result.samples["reason"] == "memorised").to_numpy()
    assert guilty[60:].mean() >= 0.95
    assert guilty[:60].mean() <= 0.05
    assert result.verdict == "rejected"


@pytest.mark.parametrize(
    ("how", "word"),
    [
        pytest.param("blurred", "spectrum", marks=pytest.mark.verify),
        pytest.param("noisy", "spectrum", marks=pytest.mark.verify),
        ("checkerboard", "spectrum"),
        pytest.param("upside-down", "orientation", marks=pytest.mark.verify),
        pytest.param("masks shifted", "mask", marks=pytest.mark.verify),
        ("masks swapped", "mask"),
        ("masks empty", "label 1"),
        pytest.param("black", "broken", marks=pytest.mark.verify),
    ],
)
def test_a_fault_is_named(how: str, word: str) -> None:
    result = judged_damaged(how)
    assert result.verdict == "rejected"
    assert word in " ".join(result.reasons), result.reasons


def test_a_collapsed_generator_is_called_collapsed() -> None:
    result = judged(collapsed(oracle(), 60, rng()))
    assert result.verdict == "rejected"
    assert result.reasons[0].startswith("collapsed")


def test_a_generator_of_one_site_is_far_from_the_other() -> None:
    parts = judged_one_site().subgroups
    near, far = parts["site A"].ratio, parts["site B"].ratio
    assert near is not None
    assert far is not None
    assert far > 1.3 * near
    assert {"label 0", "label 1", "tumour size small"} <= set(parts)


@pytest.mark.verify
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
def test_five_cohorts_are_judged_alike(seed: int) -> None:
    """Check one of every kind; `benchmarks.gate_on_known_generators` has the whole list."""
    train, val, fresh = (
        simulated(*span, seed=seed + 20) for span in ((0, 26), (26, 15), (100, 20))
    )
    config = Gate(seed=seed, threads=1, draws=20)
    known_generators, sides = generators(train, fresh), prepare_reference(train, val, config)
    for name in ("oracle", "copy, flip+noise", "collapsed", "checkerboard", "masks swapped"):
        make, expected = known_generators[name]
        result = evaluate(as_synthetic(make(rng())), sides, config)
        reasons = "; ".join(result.reasons)
        assert (result.verdict == "accepted") == (name == "oracle"), (name, reasons)
        assert not expected or any(word in reasons for word in expected), (name, reasons)


@pytest.mark.verify
@pytest.mark.timeout(1200)
def test_slices_of_128_pixels_are_judged_as_well() -> None:
    train, val, fresh = (
        simulated(*span, seed=3, size=128, pixel_mm=1.5) for span in ((0, 16), (16, 12), (100, 12))
    )
    config = Gate(seed=2, threads=1, draws=20)
    known_generators, sides = generators(train, fresh), prepare_reference(train, val, config)
    for name, word in (("oracle", ""), ("copy, shift+noise", "memorised"), ("copy, flip+blur",
                       "memorised"), ("collapsed", "collapsed")):  # fmt: skip
        result = evaluate(as_synthetic(known_generators[name][0](rng())), sides, config)
        assert result.verdict == ("rejected" if word else "accepted"), (name, result.reasons)
        assert not word or result.reasons[0].startswith(word), (name, result.reasons)
