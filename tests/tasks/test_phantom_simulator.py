"""The simulator as an oracle: what its patients are, without any file."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator

from tasks.phantom import mni_atlas, tumor
from tasks.phantom.random_fields import SmoothField
from tasks.phantom.simulator import KINDS, SimulatedPatient, Simulator

SIMULATOR = Simulator(7)


@pytest.fixture(scope="module")
def cohort() -> list[SimulatedPatient]:
    return list(SIMULATOR.patients(0, 12))


def head_grid(patient: SimulatedPatient) -> tuple[NDArray[np.float64], ...]:
    """Positions of voxels along the head's axes, in mm from the image's centre."""
    return tuple(
        (np.arange(n) - (n - 1) / 2) * step
        for n, step in zip(patient.volume.shape, patient.spacing_mm, strict=True)
    )


def on_common_grid(patient: SimulatedPatient) -> NDArray[np.float64]:
    """The volume at 3 mm in-plane pixels, ten slices, brightness relative to its median."""
    soft = ndimage.gaussian_filter(patient.volume, (0.8, 0.8, 0))
    read = RegularGridInterpolator(head_grid(patient), soft, bounds_error=False, fill_value=0)
    side, up = np.arange(-94.5, 95, 3), np.arange(-30, 61, 10)
    values = read(np.stack(np.meshgrid(side, side, up, indexing="ij"), axis=-1))
    return np.asarray(values / np.median(values[values > 0]))


def likeness(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_equal_seed_and_index_give_equal_patients_in_any_order(
    cohort: list[SimulatedPatient],
) -> None:
    again = Simulator(7).patient(5)
    np.testing.assert_array_equal(again.volume, cohort[5].volume)
    np.testing.assert_array_equal(again.mask, cohort[5].mask)
    np.testing.assert_array_equal(again.affine, cohort[5].affine)
    assert not np.array_equal(Simulator(8).patient(5).affine, cohort[5].affine)


def test_every_block_of_twelve_crosses_format_site_and_tumour() -> None:
    crossed = Counter(product(("dicom", "nifti", "nifti"), ("A", "B"), (False, True)))
    assert Counter(map(tuple, KINDS)) == crossed
    for block in range(5):
        kinds = [SIMULATOR.kind(12 * block + place) for place in range(12)]
        assert Counter(map(tuple, kinds)) == crossed
    orders = {
        tuple(SIMULATOR.kind(12 * block + place) for place in range(12)) for block in range(5)
    }
    assert len(orders) > 1, "a patient's number must not give its kind away"


def test_stacks_differ_and_stay_in_range() -> None:
    patients = [SIMULATOR.patient(index, has_tumor=False) for index in range(12, 18)]
    between = [patient.spacing_mm[2] for patient in patients]
    assert len(set(between)) == len(between)
    assert all(4 <= step <= 6 for step in between)
    assert all(24 <= patient.volume.shape[2] <= 36 for patient in patients)
    assert len({patient.volume.shape[2] for patient in patients}) > 3
    oblique = [np.abs(patient.affine[0, 1]) > 1e-6 for patient in patients]
    assert any(oblique)
    for patient in patients:
        steps = np.linalg.norm(patient.affine[:3, :3], axis=0)
        np.testing.assert_allclose(steps, patient.spacing_mm, atol=1e-4)


def test_brains_look_like_flair(cohort: list[SimulatedPatient]) -> None:
    """Grey matter is brighter than white, fluid dark, and everything outside the brain zero."""
    for patient in cohort:
        healthy = patient.brain & (patient.mask == 0)
        low, middle, high = np.percentile(patient.volume[healthy], [1, 50, 95])
        assert low < 0.6 * middle < high
        assert not patient.volume[~patient.brain].any()
    clean, scanner = SIMULATOR.simulate_contrast(0, "A", atlas := mni_atlas.load_atlas())
    grey, white = atlas.grey > 0.95, atlas.white > 0.95
    fluid = (atlas.brain > 0.95) & (atlas.grey + atlas.white < 0.05)
    assert clean[grey].mean() > 1.15 * clean[white].mean() > 2 * clean[fluid].mean()
    assert scanner.noise < 0.15 * scanner.white


def test_tumour_masks_are_exact(cohort: list[SimulatedPatient]) -> None:
    """Outside the mask and its soft edge, the tumour changes nothing but where tissue lies."""
    for patient in cohort:
        assert set(np.unique(patient.mask)) <= {0, 1}
        np.testing.assert_array_equal(patient.mask > 0, patient.parts > 0)
        assert patient.mask.any() == patient.kind.tumor
        assert not patient.mask[~patient.brain].any(), "a tumour crosses no skull"
        if patient.kind.tumor:
            assert ndimage.label(patient.mask)[1] == 1
            assert {tumor.RIM, tumor.OEDEMA} <= set(np.unique(patient.parts))


def test_oedema_is_brighter_than_healthy_brain_in_some_patients_much_more() -> None:
    ratios = []
    for index in range(100, 108):
        with_it = SIMULATOR.patient(index, has_tumor=True)
        healthy = with_it.volume[with_it.brain & (with_it.mask == 0)]
        oedema = with_it.volume[with_it.parts == tumor.OEDEMA]
        ratios.append(float(np.median(oedema) / np.median(healthy)))
    assert 1.2 < min(ratios) < 1.6
    assert max(ratios) > 1.8


def test_leaving_the_tumour_out_changes_only_its_surroundings() -> None:
    index = next(i for i in range(12) if SIMULATOR.kind(i).tumor)
    sick, well = SIMULATOR.patient(index), SIMULATOR.patient(index, has_tumor=False)
    np.testing.assert_array_equal(sick.brain, well.brain)
    np.testing.assert_array_equal(sick.affine, well.affine)
    changed = sick.volume != well.volume
    assert changed[sick.mask > 0].mean() > 0.99
    assert changed.sum() > 1.5 * sick.mask.sum(), "mass effect moves tissue outside the mask"
    assert changed.mean() < 0.35


def test_mass_effect_pushes_tissue_away_from_the_centre() -> None:
    mass = tumor.random_tumor(np.random.default_rng(3), mni_atlas.load_atlas())
    distance = np.linspace(0.5, mass.reach_mm, 200, dtype=np.float32)
    offset = np.stack([distance, 0 * distance, 0 * distance])
    came_from = (offset + tumor.displacement(mass, offset))[0]
    assert (came_from < distance).all()
    assert (np.diff(came_from) > 0).all(), "tissue is moved, never folded"
    assert (distance - came_from).max() > 1
    assert distance[-1] - came_from[-1] < 0.05 * mass.reach_mm


def test_left_and_right_can_be_told_apart(cohort: list[SimulatedPatient]) -> None:
    volumes = [on_common_grid(patient) for patient in cohort]
    mean = np.mean(volumes, axis=0)
    assert likeness(mean, mean[::-1]) < 0.98
    assert max(likeness(volume, volume[::-1]) for volume in volumes) < 0.96
    fresh = [on_common_grid(patient) for patient in SIMULATOR.patients(1000, 4)]
    for volume in fresh:
        assert likeness(volume, mean) > likeness(volume, mean[::-1])


def test_the_average_brain_itself_is_its_own_mirror_image() -> None:
    """Why the simulator has to break the symmetry itself."""
    grey = mni_atlas.load_atlas().grey[:, :, 80]
    assert np.corrcoef(grey[1:].ravel(), grey[:0:-1].ravel())[0, 1] > 0.99


def test_sites_differ_in_contrast_and_noise(cohort: list[SimulatedPatient]) -> None:
    def signature(patient: SimulatedPatient) -> tuple[float, float]:
        inside = ndimage.binary_erosion(patient.brain, np.ones((5, 5, 1)))
        detail = patient.volume - ndimage.median_filter(patient.volume, (3, 3, 1))
        level = np.median(patient.volume[inside])
        return float(level), float(detail[inside].std() / level)

    seen = {site: [] for site in "AB"}  # type: dict[str, list[tuple[float, float]]]
    for patient in cohort:
        seen[patient.kind.site].append(signature(patient))
    level = {site: np.mean([v[0] for v in values]) for site, values in seen.items()}
    noise = {site: np.mean([v[1] for v in values]) for site, values in seen.items()}
    assert level["A"] > 1.4 * level["B"]
    assert noise["B"] > 1.2 * noise["A"]


def test_fresh_patients_differ_from_the_cohort(cohort: list[SimulatedPatient]) -> None:
    volumes = [on_common_grid(patient) for patient in cohort]
    fresh = on_common_grid(SIMULATOR.patient(5000))
    assert max(likeness(fresh, volume) for volume in volumes) < 0.97


def test_a_smooth_field_has_unit_variance_and_is_smooth() -> None:
    rng = np.random.default_rng(0)
    field = SmoothField.random(rng, channels=4, knot_mm=10, reach_mm=100)
    axis = np.arange(-90, 90, 2, dtype=np.float32)
    values = field.on_lattice(axis, axis, axis)
    assert values.shape == (4, 90, 90, 90)
    assert abs(values.std() - 1) < 0.1
    assert np.diff(values, axis=1).std() < 0.4, "neighbours 2 mm apart are alike"
