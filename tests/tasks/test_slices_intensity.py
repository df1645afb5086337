"""Grey values: what no scanner's gain can change, and what no test patient can."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.slices.__main__ import main
from tasks.stage.errors import InputError
from tasks.volumes.intensity_normalisation import (
    apply_standard_scale,
    compute_landmarks,
    fit_standard_scale,
    z_score,
)
from tasks.volumes.resampling import largest_body_mask
from tests.tasks.slices_fixtures import ask, outputs, patient, write_cohort, write_sliced_cohort

ENDS: Any = {"clip_percentiles": (0.5, 99.5)}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(0, 500))
def test_normalisation_ignores_gain_and_offset(gain: float, offset: float) -> None:
    volume, _ = patient(3, tumor=True)
    brain = largest_body_mask(volume)
    options: Any = {"clip_percentiles": (0.5, 99.5), "z_range": (-2.5, 3.5)}
    plain = z_score(volume, brain, **options)
    changed = z_score(volume * np.float32(gain) + np.float32(offset * gain), brain, **options)
    np.testing.assert_allclose(plain, changed, atol=5e-3)


def ramp(n: int = 4001) -> tuple[np.ndarray, np.ndarray]:
    """Grey values 0 to 1 evenly, all of them inside the body."""
    volume = np.linspace(0, 1, n, dtype=np.float32).reshape(-1, 1, 1)
    return volume, np.ones(volume.shape, dtype=bool)


def test_even_grey_values_have_even_landmarks() -> None:
    """Closed form: of a ramp the deciles are the deciles, and the scale is the line through."""
    landmarks = compute_landmarks(*ramp(), **ENDS)
    expected = np.array([0.005, *np.arange(0.1, 1, 0.1), 0.995])
    np.testing.assert_allclose(landmarks, expected, atol=1e-6)
    scale = fit_standard_scale(landmarks[None])
    assert scale is not None
    np.testing.assert_allclose(scale, 2 * (expected - 0.005) / 0.99 - 1, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(1, 1000), st.floats(-100, 100))
def test_gain_and_offset_are_undone_exactly(gain: float, offset: float) -> None:
    volume, body = ramp()
    own = compute_landmarks(volume, body, **ENDS)
    scale = fit_standard_scale(own[None])
    assert scale is not None
    other = (volume.astype(np.float64) * gain + offset).astype(np.float32)
    moved = apply_standard_scale(other, body, compute_landmarks(other, body, **ENDS), scale)
    np.testing.assert_allclose(moved, apply_standard_scale(volume, body, own, scale), atol=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 3.0))
def test_a_rising_curve_is_undone_at_every_landmark(power: float) -> None:
    """A scanner that bends grey values: deciles come back exactly, values between nearly."""
    volume, body = ramp()
    own = compute_landmarks(volume, body, **ENDS)
    scale = fit_standard_scale(own[None])
    assert scale is not None
    bent = volume**power
    bent_landmarks = compute_landmarks(bent, body, **ENDS)
    np.testing.assert_allclose(np.interp(bent_landmarks, bent_landmarks, scale), scale)
    back = apply_standard_scale(bent, body, bent_landmarks, scale)
    plain = apply_standard_scale(volume, body, own, scale)
    # Between two landmarks a line stands for the curve: off by its bend over a tenth at most.
    assert np.abs(back - plain).max() < 0.08
    deciles = np.searchsorted(volume.ravel(), own[1:-1])
    np.testing.assert_allclose(back.ravel()[deciles], plain.ravel()[deciles], atol=2e-3)


def test_the_scale_is_the_mean_of_its_volumes_whatever_their_units() -> None:
    even, low = np.linspace(0, 1, 11), np.linspace(0, 1, 11) ** 2
    both = fit_standard_scale(np.stack([even * 900 + 30, low * 0.01]))
    assert both is not None
    np.testing.assert_allclose(both, (even + low) - 1, atol=1e-9)


def test_the_map_rises_stays_in_range_and_blackens_the_air() -> None:
    volume, _ = patient(4, tumor=True)
    brain = largest_body_mask(volume)
    own = compute_landmarks(volume, brain, **ENDS)
    moved = apply_standard_scale(volume, brain, own, np.linspace(-1, 1, 11) ** 3)
    order = np.argsort(volume[brain], kind="stable")
    assert (np.diff(moved[brain][order]) >= 0).all()
    assert moved.min() == -1.0
    assert moved.max() == 1.0
    assert (moved[~brain] == -1).all()


def test_few_grey_levels_share_their_landmarks_places() -> None:
    volume = np.repeat([0.0, 5.0, 9.0], [10, 70, 20]).reshape(-1, 1, 1).astype(np.float32)
    body = np.ones(volume.shape, dtype=bool)
    scale = np.linspace(-1, 1, 11)
    own = compute_landmarks(volume, body, **ENDS)
    moved = apply_standard_scale(volume, body, own, scale)
    expected = [scale[own == value].mean() for value in (0.0, 5.0, 9.0)]
    np.testing.assert_allclose(np.unique(moved), expected, atol=1e-6)


def test_volumes_without_contrast_do_not_enter_the_scale() -> None:
    flat, even = np.full(11, 7.0), np.linspace(0, 1, 11)
    scale = fit_standard_scale(np.stack([flat, even]))
    assert scale is not None
    np.testing.assert_allclose(scale, 2 * even - 1)
    assert fit_standard_scale(flat[None]) is None


def darken(root: Path, subject: str) -> None:
    """Bend one patient's grey values."""
    path = root / f"data/volumes/b/{subject}/FLAIR.nii"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) ** 2 / 50, image.affine), path)


def test_landmarks_are_fitted_on_training_patients_only(root: Path) -> None:
    write_sliced_cohort(root, intensity="nyul")
    images, _, table, stats = outputs(root)
    fitted = stats["normalisation"]["landmarks"]["FLAIR"]
    assert len(fitted) == 11
    for side in ("test", "val"):
        darken(root, table.loc[table["partition_0"] == side, "subject"].iloc[0])
    main()
    again, _, _, stats = outputs(root)
    assert stats["normalisation"]["landmarks"]["FLAIR"] == fitted
    train = (table["partition_0"] == "train").to_numpy()
    np.testing.assert_array_equal(images[train], again[train])
    darken(root, table.loc[train, "subject"].iloc[0])
    main()
    assert outputs(root)[3]["normalisation"]["landmarks"]["FLAIR"] != fitted


def test_landmarks_are_fitted_on_drawn_patients_only(root: Path) -> None:
    few = {"train_patients": 6, "training_slices": "in-range", "intensity": "nyul"}
    manifest = write_cohort(root, **few)
    main()
    _, _, table, stats = outputs(root)
    for subject in set(manifest["subject"]) - set(table["subject"]):
        darken(root, subject)
    main()
    assert outputs(root)[3]["normalisation"] == stats["normalisation"]


def test_scanners_that_bend_grey_values_agree_after_standardisation(root: Path) -> None:
    """Every other patient's values are squared: the spread of the brain's median must vanish."""
    manifest = write_cohort(root, 16, folds=[0])
    for subject in manifest["subject"].iloc[::2]:
        darken(root, subject)
    spread = {}
    for method in ("z-score", "nyul"):
        ask(root, intensity=method)
        main()
        images, masks, table, _ = outputs(root)
        values = images[:, 0].astype(np.float32)
        inside = (values > -1) & (masks == 0)
        quarter = [
            np.percentile(values[rows][inside[rows]], 10)
            for rows in (table["subject"] == subject for subject in table["subject"].unique())
        ]
        spread[method] = np.std(quarter)
    assert spread["nyul"] < 0.5 * spread["z-score"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": [0, 1]}, "nyul fits its landmarks on one fold"),
        ({"clip_percentiles": [15, 99]}, "beyond nyul's deciles"),
    ],
)
def test_what_nyul_cannot_do_is_refused_in_one_line(
    root: Path, change: dict[str, Any], message: str
) -> None:
    write_cohort(root, intensity="nyul", **change)
    with pytest.raises(InputError, match=message):
        main()
