"""The release: marked, whole, the same bytes every time; or a refusal that holds no data."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from tasks.common.release_candidate import read_candidate
from tasks.release import approval, dicom_writer, nifti_writer
from tasks.release.__main__ import main
from tasks.stage.errors import InputError
from tests.tasks.dicom_validators import dicom_errors
from tests.tasks.fake_run import Run, approve, write


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released run of two folds, to look at; nobody writes to it."""
    root = write(tmp_path_factory.mktemp("released"), Run(folds=["0", "1"], synthetic=12))
    release(root)
    return root / "data/release"


def release(root: Path, **changes: Any) -> dict[str, Any]:
    """Run the stage in `root`, with changes to its section, and give back what it says."""
    params = root / "params.yaml"
    for key, value in changes.items():
        text = params.read_text()
        params.write_text(re.sub(rf"(release:(?:\n  .*)*\n  {key}: ).*", rf"\g<1>{value}", text))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main()
    folder = root / "data/release"
    name = "release.json" if (folder / "release.json").exists() else "refusal.json"
    output: dict[str, Any] = json.loads((folder / name).read_text())
    return output


def test_a_split_that_may_leak_is_said_on_the_data_card(tmp_path: Path, released: Path) -> None:
    assert "may leak" not in (released / "DATACARD.md").read_text()
    root = write(tmp_path, Run(synthetic=6))
    path = root / "data/slices/stats.json"
    stats = json.loads(path.read_text()) | {"patients_known": False, "scale": "body"}
    path.write_text(json.dumps(stats))
    release(root)
    card = (root / "data/release/DATACARD.md").read_text()
    assert card.index("The split may leak") < card.index("- Slices:")
    assert "in name only" in card


def accepted(root: Path) -> int:
    return int(pd.read_parquet(root / "data/gate/0/samples.parquet")["accepted"].sum())


def test_every_nifti_is_marked_and_shows_the_patients_left_at_high_columns(released: Path) -> None:
    paths = sorted((released / "bids").rglob("*.nii.gz"))
    assert paths
    for path in paths:
        image = nib.load(path)
        assert b"SYNTHETIC" in image.header["descrip"].tobytes()
        assert b"SYNTHETIC" in image.header["intent_name"].tobytes()
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        assert image.header.get_zooms()[:2] == (3.0, 3.0)


def test_every_image_json_and_the_description_say_synthetic(released: Path) -> None:
    for name in ("dataset_description", "FLAIR", "label-tumor_mask"):
        assert json.loads((released / f"bids/{name}.json").read_text())["SyntheticData"] is True
    described = json.loads((released / "bids/dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "auglift"


def test_every_png_is_marked_in_a_text_chunk(released: Path) -> None:
    paths = sorted(released.rglob("*.png"))
    assert len(paths) > len(list((released / "previews").iterdir())) > 0
    for path in paths:
        assert Image.open(path).text["SyntheticData"] == "YES"


def test_every_dicom_is_marked_and_names_no_one(released: Path) -> None:
    paths = sorted(released.rglob("*.dcm"))
    assert paths
    for path in paths:
        image = pydicom.dcmread(path)
        purposes = [
            item.PurposeOfReferenceCodeSequence[0].CodeValue
            for item in image.ContributingEquipmentSequence
        ]
        assert image.SyntheticData == "YES"
        assert image.ImageType[0] == "DERIVED"
        assert "109100" in purposes
        assert dicom_writer.ACQUISITION not in purposes
        assert str(image.PatientName).startswith("SYNTHETIC^")
        assert not image.PatientBirthDate
        assert not image.PatientSex
        assert str(image.SOPInstanceUID).startswith("2.25.")
        if image.Modality != "SEG":
            assert image.ImageType[1] == "SECONDARY"
            assert image.BurnedInAnnotation == "NO"


def test_dicom_nifti_and_png_hold_the_generators_slice(released: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(released.parents[1])
        candidate = read_candidate(["0", "1"])
    table = pd.read_csv(released / "bids/participants.tsv", sep="\t")
    for subject, fold, row in zip(
        table["participant_id"], table["fold"], table["source_row"], strict=True
    ):
        match = (candidate.samples["fold"] == str(fold)) & (candidate.samples["row"] == row)
        place = int(np.flatnonzero(match)[0])
        stored = nifti_writer.to_stored_values(candidate.images[place, 0])
        volume = nib.load(released / f"bids/{subject}/anat/{subject}_FLAIR.nii.gz")
        mask = nib.load(released / f"bids/{subject}/anat/{subject}_label-tumor_mask.nii.gz")
        capture = pydicom.dcmread(released / f"dicom/{subject}/FLAIR.dcm")
        assert np.array_equal(np.asarray(volume.dataobj)[:, :, 0].T, stored)
        assert np.array_equal(capture.pixel_array, stored)
        assert np.array_equal(np.asarray(mask.dataobj)[:, :, 0].T, candidate.masks[place])
        assert np.abs(stored / 4095 * 2 - 1 - candidate.images[place, 0]).max() < 1 / 4095
        png = np.asarray(Image.open(released / f"png/{subject}.png"))
        assert np.abs(png / 255 * 2 - 1 - candidate.images[place, 0]).max() < 1 / 250


def test_a_dicom_slice_lies_where_its_nifti_twin_lies(released: Path) -> None:
    subject = pd.read_csv(released / "bids/participants.tsv", sep="\t")["participant_id"][0]
    affine = nib.load(released / f"bids/{subject}/anat/{subject}_FLAIR.nii.gz").affine
    capture = pydicom.dcmread(released / f"dicom/{subject}/FLAIR.dcm")
    corner = np.array(capture.ImagePositionPatient, dtype=float)
    assert np.allclose(np.diag([-1, -1, 1]) @ affine[:3, 3], corner)  # RAS to LPS


def test_a_tumour_mask_is_a_dicom_seg_of_its_image(released: Path) -> None:
    paths = sorted(released.rglob("mask.dcm"))
    assert paths
    for path in paths:
        segments = hd.seg.segread(path)
        capture = pydicom.dcmread(path.with_name("FLAIR.dcm"))
        pixels = segments.get_pixels_by_source_instance([capture.SOPInstanceUID])
        subject = path.parent.name
        mask = nib.load(released / f"bids/{subject}/anat/{subject}_label-tumor_mask.nii.gz")
        assert np.array_equal(pixels[0, :, :, 0], np.asarray(mask.dataobj)[:, :, 0].T)
        assert segments.FrameOfReferenceUID == capture.FrameOfReferenceUID
        assert segments.StudyInstanceUID == capture.StudyInstanceUID


def test_dciodvfy_and_dcmftest_find_nothing_wrong(released: Path) -> None:
    paths = [*sorted(released.rglob("FLAIR.dcm"))[:2], *sorted(released.rglob("mask.dcm"))[:2]]
    assert dicom_errors(paths) == []


def test_checksums_cover_every_file_and_hold(released: Path) -> None:
    lines = (released / "SHA256SUMS").read_text().splitlines()
    listed = dict(reversed(line.split("  ", 1)) for line in lines)
    there = {
        str(path.relative_to(released)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in released.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert listed == there


def test_the_release_holds_no_real_slice_and_no_patient(released: Path) -> None:
    assert list(released.rglob("*.html")) == []  # the report shows real slices
    for path in released.rglob("*"):
        if path.is_file():
            assert b"sub-00" not in path.read_bytes()


def test_the_same_inputs_give_the_same_release(tmp_path: Path) -> None:
    sums = []
    for name in ("one", "two"):
        root = write(tmp_path / name, Run(synthetic=6))
        release(root)
        sums.append((root / "data/release/SHA256SUMS").read_text())
    assert sums[0] == sums[1]


def test_the_card_tells_verdict_claim_and_review(released: Path) -> None:
    text = (released / "DATACARD.md").read_text()
    assert "Fold 1: **accepted**" in text
    assert "segment: **helps**" in text
    assert "not reviewed by a person" in text
    assert "Not for" in text


def test_the_card_says_what_was_not_measured(tmp_path: Path, released: Path) -> None:
    assert "Not measured" not in (released / "DATACARD.md").read_text()
    lacking = {"tumor_copies": "10 validation tumours, at least 20 are needed"}
    root = write(tmp_path, Run(synthetic=6, not_measured=lacking))
    release(root)
    card = (root / "data/release/DATACARD.md").read_text()
    assert "- tumor_copies: 10 validation tumours, at least 20 are needed" in card


def test_two_modalities_are_two_images_of_one_subject(tmp_path: Path) -> None:
    root = write(tmp_path, Run(channels=2, synthetic=4, accept_share=1.0))
    release(root)
    names = {path.name for path in (root / "data/release/bids/sub-syn00001/anat").iterdir()}
    assert names == {
        "sub-syn00001_FLAIR.nii.gz",
        "sub-syn00001_T1w.nii.gz",
        "sub-syn00001_label-tumor_mask.nii.gz",
    }
    studies = {
        pydicom.dcmread(path).StudyInstanceUID
        for path in (root / "data/release/dicom/sub-syn00001").iterdir()
    }
    assert len(studies) == 1


def assert_refused(root: Path, words: str, **changes: Any) -> None:
    output = release(root, **changes)
    folder = root / "data/release"
    assert output["status"] == "refused"
    assert any(words in reason for reason in output["reasons"])
    assert words in (folder / "REFUSED.md").read_text()
    assert {path.name for path in folder.rglob("*")} == {"REFUSED.md", "refusal.json"}


def test_a_rejected_run_leaves_only_the_reasons(tmp_path: Path) -> None:
    assert_refused(
        write(tmp_path, Run(verdict="rejected")), "9.10 times that of real slices (at most 6.0)"
    )
    refusal = (tmp_path / "data/release/REFUSED.md").read_text()
    assert "where a reason\nabove names a key of `params.yaml`, change it" in refusal


def test_a_refusal_replaces_an_earlier_release(tmp_path: Path) -> None:
    root = write(tmp_path, Run(synthetic=4))
    release(root)
    approve(root, "refused", reviewer="A. Reader", reason="masks miss the rim")
    assert_refused(root, "masks miss the rim")


def test_nothing_accepted_is_a_refusal(tmp_path: Path) -> None:
    assert_refused(write(tmp_path, Run(accept_share=0.0)), "no slice was accepted")


def test_a_required_approval_must_name_this_candidate(tmp_path: Path) -> None:
    root = write(tmp_path, Run(synthetic=4, accept_share=1.0))
    assert_refused(root, "no person has decided", require_approval="true")
    approve(root, "approved", reviewer="A. Reader", digest="0" * 64)
    assert_refused(root, "this candidate is another")
    digest = json.loads((root / "data/release/refusal.json").read_text())["digest"]
    approve(root, "approved", reviewer="A. Reader", digest=digest)
    output = release(root)
    assert output["status"] == "released"
    assert output["slices"] == accepted(root)
    assert output["review"] == "approved by A. Reader"


def test_an_approval_of_another_candidate_counts_as_no_review() -> None:
    decision = approval.Approval(decision="approved", reviewer="A. Reader", digest="1" * 64)
    assert approval.describe_review(decision, "2" * 64) == "not reviewed by a person"


def test_a_misspelt_decision_is_one_clear_line(tmp_path: Path) -> None:
    root = write(tmp_path, Run(synthetic=4))
    approve(root, "aproved")
    with pytest.raises(InputError, match=r"approval\.json: decision is 'aproved'"):
        release(root)


def test_a_gate_that_judged_other_slices_stops_the_release(tmp_path: Path) -> None:
    root = write(tmp_path, Run(synthetic=4))
    path = root / "data/gate/0/samples.parquet"
    pd.read_parquet(path).iloc[:3].to_parquet(path)
    with pytest.raises(InputError, match="judged 3 rows"):
        release(root)


@pytest.mark.parametrize("folder", ["/home/doe", "../doe", "data/raw/doe"])
def test_the_card_keeps_the_path_of_an_outside_source_to_itself(
    folder: str, tmp_path: Path
) -> None:
    root = write(tmp_path, Run(synthetic=4, accept_share=1.0))
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("data/gan", f"{folder}/vendor-slices"))
    release(root)
    text = (root / "data/release/DATACARD.md").read_text()
    assert "vendor-slices" in text
    assert "doe" not in text


def test_slices_that_their_maker_keeps_for_training_are_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    root = write(tmp_path, Run(synthetic=6))
    path = root / "data/gate/0/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"releasable": False, "not_releasable": "real heads"}))
    refusal = release(root)
    assert refusal["status"] == "refused"
    assert refusal["reasons"] == ["not for release: real heads"]
    assert not list((root / "data/release").rglob("*.dcm"))
