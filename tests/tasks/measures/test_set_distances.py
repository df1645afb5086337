"""KID, coverage, spectrum and intervals: closed forms, invariances, and one library."""

import numpy as np
import pandas as pd
import pytest

from tasks.measures.anatomy.power_spectrum import radial_log_power, spectrum_distance
from tasks.measures.features.frechet import frechet_distance
from tasks.measures.features.kid import kernel_distance
from tasks.measures.features.prdc import prdc
from tasks.measures.patient_subsampling import (
    interval,
    null_range,
    null_splits,
    ratio_interval,
    subsamples,
    thin_subsample,
)

RNG = np.random.default_rng


def test_the_kernel_distance_of_one_law_is_zero_on_average() -> None:
    found = [
        kernel_distance(RNG(s).normal(size=(40, 8)), RNG(s + 500).normal(size=(40, 8)))
        for s in range(200)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_the_kernel_distance_of_shifted_scalars_has_the_closed_form() -> None:
    # k(x, y) = (x y + 1)^3, x ~ N(0, 1), y ~ N(1, 1): the sum over i of C(3, i) (m_i - n_i)^2.
    a, b = RNG(0).normal(size=(2000, 1)), RNG(1).normal(1, 1, size=(2000, 1))
    expected = 3 * (0 - 1) ** 2 + 3 * (1 - 2) ** 2 + (0 - 4) ** 2
    assert kernel_distance(a, b) == pytest.approx(expected, rel=0.15)


@pytest.mark.verify
def test_the_kernel_distance_is_that_of_torchmetrics() -> None:
    import torch
    from torchmetrics.image.kid import poly_mmd

    a, b = RNG(2).normal(size=(50, 16)), RNG(3).normal(0.2, 1, size=(50, 16))
    expected = float(poly_mmd(torch.tensor(a), torch.tensor(b)))
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_equal_sets_are_covered_and_far_ones_are_not() -> None:
    a = RNG(4).normal(size=(60, 5))
    same = prdc(a, a + 1e-9)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = prdc(a, a + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_a_collapsed_set_is_precise_and_covers_little() -> None:
    a = RNG(5).normal(size=(100, 5))
    figures = prdc(a, np.repeat(a[:3], 30, axis=0) + RNG(6).normal(size=(90, 5)) * 1e-3)
    assert figures.precision == 1
    assert figures.coverage < 0.3


def test_white_noise_has_a_flat_profile_and_a_checkerboard_its_corner() -> None:
    noise = RNG(7).normal(0, 0.5, (40, 1, 64, 64)).astype(np.float32)
    assert np.ptp(radial_log_power(noise).mean(0)[1:]) < 0.15
    board = (np.indices((64, 64)).sum(0) % 2 * 2 - 1) * 0.05
    gap = radial_log_power((noise + board).astype(np.float32)).mean(0) - radial_log_power(
        noise
    ).mean(0)
    assert gap.argmax() == 12
    assert spectrum_distance(
        radial_log_power(noise), radial_log_power(noise[::-1])
    ) == pytest.approx(0, abs=1e-6)


def tables(patients: int, each: int = 4) -> pd.DataFrame:
    subject = np.repeat([f"p{i}" for i in range(patients)], each)
    return pd.DataFrame({"subject": subject, "label": np.arange(len(subject)) % 2})


def test_draws_are_equal_in_number_label_and_patients() -> None:
    synthetic = pd.DataFrame({"label": RNG(8).integers(0, 2, 200)})
    other, reference = tables(20), tables(8)
    for draw in subsamples(synthetic, other, reference, count=10, share=0.5, seed=1):
        sides = ((synthetic, draw.synthetic), (other, draw.other), (reference, draw.reference))
        counts = [table["label"].to_numpy()[rows].sum() for table, rows in sides]
        assert len({len(rows) for _, rows in sides}) == 1
        assert len(set(counts)) == 1
        assert all(len(set(rows)) == len(rows) for _, rows in sides)
        assert reference["subject"].to_numpy()[draw.reference].tolist().count("p0") in (0, 4)
        assert len(set(reference["subject"].to_numpy()[draw.reference])) == 4


def test_unlabelled_reals_are_compared_with_everything() -> None:
    reference = tables(6).assign(label=-1)
    draw = next(subsamples(tables(9), reference, reference, count=1, share=1.0, seed=0))
    assert len(draw.synthetic) == len(draw.reference) == 24


def test_splits_put_other_patients_in_the_place_of_images() -> None:
    pool, reference = tables(20), tables(8).assign(subject=lambda t: "v" + t["subject"])
    for draw in null_splits(pool, reference, count=5, seed=0):
        people = [set(pool["subject"].iloc[rows]) for rows in (draw.synthetic, draw.other)]
        assert not people[0] & people[1]
        assert [len(one) for one in people] == [8, 8]
        assert len(draw.synthetic) == len(draw.other) == len(draw.reference)
    for draw in null_splits(pool, None, count=5, seed=0):
        people = [set(pool["subject"].iloc[rows]) for rows in (draw.synthetic, draw.reference)]
        assert not people[0] & people[1]
    assert not list(null_splits(tables(3), None, count=5, seed=0))


def test_a_thinned_draw_keeps_whole_patients_and_equal_labels() -> None:
    synthetic = pd.DataFrame({"label": RNG(8).integers(0, 2, 200)})
    sides = (synthetic, tables(20), tables(8))
    whole = next(subsamples(*sides, count=1, share=1.0, seed=1))
    part = thin_subsample(whole, sides, share=0.5, seed=2)
    assert set(part.reference) <= set(whole.reference)
    assert set(part.synthetic) <= set(whole.synthetic)
    assert len(set(sides[2]["subject"].iloc[part.reference])) == 4
    assert len(part.synthetic) == len(part.reference) == len(part.other)
    labels = [t["label"].to_numpy()[rows].mean() for t, rows in
              zip(sides, (part.synthetic, part.other, part.reference), strict=True)]  # fmt: skip
    assert len(set(labels)) == 1


def test_the_null_range_holds_the_middle_of_the_ratios_of_chance() -> None:
    ratios = np.exp(RNG(0).normal(0, 0.5, 20_000))
    assert null_range(ratios, side="high", shrink=1) == (
        None, pytest.approx(np.exp(0.5 * 1.645), rel=0.05),
    )  # fmt: skip
    low, high = null_range(ratios, side="both", shrink=np.sqrt(0.5)) or (0, 0)
    assert (low, high) == pytest.approx(
        (np.exp(-0.5 * 1.96 / 1.414), np.exp(0.5 * 1.96 / 1.414)), rel=0.05
    )
    assert null_range(ratios[:5], side="low", shrink=1) is None


def test_an_interval_of_what_cannot_be_negative_has_no_negative_end() -> None:
    halves = np.abs(RNG(1).normal(0.1, 0.2, 100))
    low, high = interval(0.05, halves) or (-1, -1)
    assert (low, high > 0.05) == (0, True)
    assert (interval(0.0, RNG(2).normal(size=100)) or (0, 0))[0] < 0
    assert interval(np.nan, halves) is None


@pytest.mark.verify
def test_the_interval_of_the_extrapolated_distance_covers_the_closed_form() -> None:
    """Sixteen patients with 6 slices against 96 images: truth known from the two Gaussians."""
    from types import SimpleNamespace
    from typing import Any

    from tasks.gate.measure_functions import extrapolated_frechet
    from tasks.measures.features.frechet import gaussian_distance

    wide, narrow = np.eye(4) * (1 + 0.25), np.eye(4) * 1.1**2
    truth = gaussian_distance(np.zeros(4), wide, np.ones(4), narrow)
    figure = extrapolated_frechet(lambda one: one.features)
    people = tables(16, 6).assign(label=0)
    fake = pd.DataFrame({"label": np.zeros(96, dtype=int)})
    covered, plain, found = [], [], []
    for seed in range(100):
        rng = RNG(seed)
        images = rng.normal(1, 1.1, size=(96, 4))
        sides: list[Any] = [SimpleNamespace(features=images, table=fake)]
        for _ in range(2):
            centres = rng.normal(0, 0.5, size=(16, 1, 4))
            rows = (centres + rng.normal(size=(16, 6, 4))).reshape(-1, 4)
            sides.append(SimpleNamespace(features=rows, table=people))
        sets: Any = SimpleNamespace(synthetic=sides[0], train=sides[1], val=sides[2])
        figures = {
            share: np.array(
                [
                    figure(sets, draw)[0][0]
                    for draw in subsamples(fake, people, people, count=count, share=share, seed=3)
                ]
            )
            for share, count in ((1.0, 10), (0.5, 40))
        }
        point = float(figures[1.0].mean())
        low, high = interval(point, figures[0.5]) or (np.nan, np.nan)
        covered.append(low <= truth <= high)
        found.append(point)
        plain.append(frechet_distance(images, sides[2].features))
    assert abs(np.mean(found) - truth) < abs(np.mean(plain) - truth)
    assert np.mean(covered) >= 0.9, np.mean(covered)


@pytest.mark.verify
def test_the_interval_covers_the_ratio_of_the_truth() -> None:
    """Cohorts of 16 patients with 6 slices each; the truth is the mean over all of them."""

    def cohort(rng: np.random.Generator) -> np.ndarray:
        centres = rng.normal(0, 0.5, size=(16, 1, 4))
        return (centres + rng.normal(size=(16, 6, 4))).reshape(-1, 4)

    def ratio(rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
        images = rng.normal(2, 1.1, size=(96, 4))  # one by one: a generator has no patients
        sides = images, cohort(rng), cohort(rng)
        people = tables(16, 6).assign(label=0)
        fake = pd.DataFrame({"label": np.zeros(96, dtype=int)})
        figures = []
        for share, count in ((1.0, 5), (0.5, 60)):
            pairs = [
                [
                    frechet_distance(sides[0][d.synthetic], sides[2][d.reference]),
                    frechet_distance(sides[1][d.other], sides[2][d.reference]),
                ]
                for d in subsamples(fake, people, people, count=count, share=share, seed=3)
            ]
            figures.append(np.array(pairs))
        top, bottom = figures[0].mean(axis=0)
        return top, bottom, figures[1][:, 0] / figures[1][:, 1]

    runs = [ratio(RNG(seed)) for seed in range(100)]
    truth = np.exp(np.mean([np.log(top / bottom) for top, bottom, _ in runs]))
    covered = []
    for top, bottom, halves in runs:
        interval = ratio_interval(top / bottom, halves)
        assert interval is not None
        covered.append(interval[0] <= truth <= interval[1])
    assert np.mean(covered) >= 0.9, np.mean(covered)
