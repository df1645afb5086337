from pathlib import Path

import numpy as np
import pytest

from tasks.ingest.core.volume import Volume
from tasks.ingest.preprocessing.n4_bias_field import correct_bias
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import write_nifti


def head(bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two tissues under a field that grows by exp(bias) along i, and their mask."""
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in (36, 42, 16)), indexing="ij")
    radius = np.sqrt((i / 0.8) ** 2 + (j / 0.9) ** 2 + (k / 0.9) ** 2)
    tissue = np.where(radius < 0.6, 900.0, np.where(radius < 1, 600.0, 0.0))
    noise = np.random.default_rng(0).normal(0, 8, tissue.shape)
    return np.abs(tissue * np.exp(bias * i / 2) + noise).astype(np.int16), radius < 0.55


def spread(data: np.ndarray, inside: np.ndarray) -> float:
    """Compute the coefficient of variation inside one tissue."""
    return float(data[inside].std() / data[inside].mean())


def test_a_known_bias_field_is_mostly_removed_and_bytes_repeat() -> None:
    data, inside = head(bias=0.8)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    first = correct_bias(Volume(data, affine)).data
    assert spread(data, inside) > 0.07
    assert spread(first, inside) < 0.5 * spread(data, inside)
    assert np.array_equal(first, correct_bias(Volume(data, affine)).data)


def test_a_constant_volume_passes_through() -> None:
    data = np.full((8, 8, 8), 5, np.int16)
    assert np.array_equal(correct_bias(Volume(data, np.eye(4))).data, data)


def test_n4_is_off_by_default_and_touches_no_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = IngestWorkspace(tmp_path)
    data, inside = head(bias=0.8)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", data, affine)
    write_nifti(workspace.raw / "sub-01_mask.nii.gz", inside.astype(np.uint8), affine)
    assert np.array_equal(workspace.load(workspace.ingest().image[0])[0], data)
    manifest = workspace.ingest(n4=True)
    assert spread(workspace.load(manifest.image[0])[0], inside) < 0.5 * spread(data, inside)
    assert np.array_equal(workspace.load(manifest["mask"][0])[0], inside)
