"""Transfer syntaxes: uncompressed ones are written here, compressed ones are archived files."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace, assert_volume_equals

CONFORMANCE = Path(__file__).parents[2] / "../shared/data/dicom-conformance"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def rewrite(folder: Path, syntax: str, *, preamble: bool = True) -> None:
    """Write the files of a folder again in another uncompressed transfer syntax, or bare."""
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        little = syntax != ExplicitVRBigEndian
        if not little:
            swapped = np.frombuffer(dataset.PixelData, "<u2").astype(">u2")
            dataset["PixelData"] = DataElement("PixelData", "OW", swapped.tobytes())
        dataset.file_meta.TransferSyntaxUID = syntax
        if preamble:
            list(dataset.iterall())  # values are decoded before the byte order changes
            pydicom.dcmwrite(
                path, dataset, force_encoding=True,
                implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little,
            )  # fmt: skip
        else:
            del dataset.file_meta
            dataset.save_as(
                path.with_suffix(""), implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=little, enforce_file_format=False,
            )  # fmt: skip
            path.unlink()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_uncompressed_syntaxes_are_read(workspace: IngestWorkspace, syntax: str) -> None:
    pixels = anatomy((4, 8, 9))
    affine = write_series(workspace.raw, pixels)
    rewrite(workspace.raw, syntax)
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_files_without_preamble_and_extension_are_read(
    workspace: IngestWorkspace, syntax: str
) -> None:
    pixels = anatomy((4, 8, 9))
    affine = write_series(workspace.raw, pixels)
    rewrite(workspace.raw, syntax, preamble=False)
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)


def conformance_series() -> list[Path]:
    return sorted({path.parent for path in CONFORMANCE.glob("**/*.dcm")})


@pytest.mark.skipif(not CONFORMANCE.is_dir(), reason="../shared/data/dicom-conformance is absent")
def test_every_conformance_series_is_exact_or_rejected_with_its_code(
    workspace: IngestWorkspace,
) -> None:
    codes = {"notavolume": "not-a-volume", "slicecount": "too-few-slices"}
    assert len(conformance_series()) == 11
    for series in conformance_series():
        workspace.raw.parent.mkdir(parents=True, exist_ok=True)
        workspace.raw.unlink(missing_ok=True)
        workspace.raw.symlink_to(series.resolve())
        if series.parts[-3] == "failing":
            with pytest.raises(InputError, match=codes[series.parts[-2]]):
                workspace.ingest()
            continue
        manifest = workspace.ingest()
        truth = nib.as_closest_canonical(nib.load(f"{series}_ground_truth.nii.gz"))
        data, affine = workspace.load(manifest.image[0])
        assert np.abs(affine - truth.affine).max() < 1e-4, series
        assert np.array_equal(data, truth.get_fdata().astype(data.dtype)), series
