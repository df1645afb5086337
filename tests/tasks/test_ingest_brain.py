"""Brain extraction: off by default; missing networks end the stage with one line."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume, to_ras
from tasks.ingest.preprocessing import brain_extraction
from tasks.stage.errors import InputError
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import LGG, one_patient, write_nifti

absent = not all(
    brain_extraction.network_path(name).is_file() for name in brain_extraction.NETWORKS
)
with_networks = pytest.mark.skipif(
    absent, reason=f"the networks are absent: {brain_extraction.INSTALL}"
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def test_without_the_networks_the_stage_names_the_install_command(
    workspace: IngestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_patient(workspace)
    monkeypatch.setattr(brain_extraction, "PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install --no-deps deepbet"):
        workspace.ingest(brain_extraction=True)
    assert workspace.ingest().brain.isna().all()


def test_unknown_networks_are_rejected(
    workspace: IngestWorkspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one_patient(workspace)
    (tmp_path / "other.pt").write_bytes(b"another network")
    monkeypatch.setattr(brain_extraction, "network_path", lambda name: tmp_path / "other.pt")
    with pytest.raises(InputError, match="are others here"):
        workspace.ingest(brain_extraction=True)


def head(shape: tuple[int, int, int] = (40, 44, 30)) -> tuple[np.ndarray, np.ndarray]:
    """Return a skull around a brain, and the brain's mask."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"), -1)
    radius = np.linalg.norm(grid, axis=-1)
    inside = radius < 0.6
    skull = (radius > 0.75) & (radius < 0.9)
    return (500 * inside + 900 * skull).astype(np.int16), inside


@pytest.mark.parametrize("stripped", [False, True])
def test_voxels_outside_the_brain_become_zero_unless_stripped_before(
    monkeypatch: pytest.MonkeyPatch, stripped: bool
) -> None:
    data, inside = head()
    monkeypatch.setattr(brain_extraction, "segment_brain", lambda _: inside)
    before = Volume(np.where(inside, data, 0) if stripped else data, np.eye(4))
    after, message = brain_extraction.extract_brain(before)
    assert message == ("stripped before" if stripped else "extracted")
    assert np.array_equal(after.data, np.where(inside, data, 0))
    assert after.data.dtype == data.dtype


def test_a_brain_mask_is_its_largest_component_without_holes() -> None:
    _, inside = head()
    holed = inside.copy()
    holed[20, 22, 15] = False
    holed[0, 0, 0] = True
    assert np.array_equal(
        brain_extraction.fill_holes(brain_extraction.largest_component(holed)), inside
    )
    with pytest.raises(RejectionError):
        brain_extraction.largest_component(np.zeros((4, 4, 4), bool))


@pytest.mark.verify
@with_networks
@pytest.mark.skipif(not LGG.is_dir(), reason="../shared/data/lgg is absent")
def test_a_real_head_loses_its_skull_once(workspace: IngestWorkspace) -> None:
    path = sorted(LGG.glob("sub-*/anat/*_FLAIR.nii.gz"))[0]
    image = nib.load(path)
    whole = to_ras(Volume(np.asarray(image.dataobj).astype(np.int16), image.affine))
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", whole.data, whole.affine)
    first = workspace.ingest(brain_extraction=True)
    assert list(first.brain) == ["extracted"]
    data, affine = workspace.load(first.image[0])
    kept = data > 0
    assert 0.1 < kept.sum() / (whole.data > whole.data.min()).sum() < 0.6
    assert np.array_equal(data[kept], whole.data[kept])
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", data, affine)
    second = workspace.ingest(brain_extraction=True)
    assert list(second.brain) == ["stripped before"]
    assert np.array_equal(workspace.load(second.image[0])[0], data)
