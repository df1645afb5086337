"""`files.csv` wins over names and headers in every format, and `auglift scan` proposes it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from flows.cli import app
from tasks.commands.scan import __main__
from tasks.ingest.privacy.pseudonyms import DEMO_KEY, Pseudonyms
from tasks.ingest.user_tables.files_csv import compile_glob
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_segmentation, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import ball, write_nifti

SHAPE = (8, 9, 10)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def table(workspace: IngestWorkspace, text: str) -> None:
    workspace.raw.mkdir(parents=True, exist_ok=True)
    (workspace.raw / "files.csv").write_text(text)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (12, 10), dtype=np.uint8)
    Image.fromarray(values).save(path)


def subjects(*patients: str) -> set[str]:
    return {Pseudonyms(DEMO_KEY).subject(patient) for patient in patients}


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("P1/*", "P1/a.nii", True), ("P1/*", "P1/x/a.nii", False), ("P1/**", "P1/x/a.nii", True),
        ("**/a.nii", "a.nii", True), ("**/a.nii", "x/y/a.nii", True),
        ("*_t1.nii", "a_t1.nii", True),
        ("[a].nii", "a.nii", False), ("*.nii", "a.nii.gz", False),
    ],
)  # fmt: skip
def test_one_star_stays_inside_a_name_and_two_stars_cross_folders(
    glob: str, path: str, matches: bool
) -> None:
    assert bool(compile_glob(glob).fullmatch(path)) == matches


def test_the_table_names_the_patient_of_files_that_no_layout_explains(
    workspace: IngestWorkspace,
) -> None:
    write_nifti(workspace.raw / "Output_3D_File.nii.gz", anatomy(SHAPE))
    write_nifti(workspace.raw / "ROI_regToT1_AffinetoMNI.nii.gz", ball(SHAPE, (4, 4, 4)))
    write_nifti(workspace.raw / "other.nii.gz", anatomy(SHAPE, 1))
    write_nifti(workspace.raw / "notes/odd.nii.gz", anatomy(SHAPE, 2))
    table(workspace, "path,patient,session,modality,role,channel\n"
                "Output_3D_File.nii.gz,X,,FLAIR,image,\n"
                "ROI*,X,,,mask,\nnotes/**,,,,skip,\n")  # fmt: skip
    manifest = workspace.ingest()
    assert set(manifest.subject) == subjects("X")
    assert list(manifest.modality) == ["FLAIR"]
    assert list(manifest.evidence) == ["files.csv"]
    assert manifest.patient_known.all()
    assert workspace.codes() == ["patient-unknown", "skipped"]


def test_the_table_wins_over_layouts_and_gives_visits(workspace: IngestWorkspace) -> None:
    for number in (1, 2):
        write_nifti(workspace.raw / f"BraTS2021_0000{number}/BraTS2021_0000{number}_flair.nii.gz",
                    anatomy(SHAPE, number))  # fmt: skip
    table(workspace, "path,patient,session\nBraTS2021_00001/*,A,2\nBraTS2021_00002/*,A,10\n")
    manifest = workspace.ingest()
    assert set(manifest.subject) == subjects("A")
    assert list(manifest.session) == ["ses-01", "ses-02"]


def test_the_table_wins_over_dicom_headers(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "a", anatomy((4, 8, 8)), seed="a", patient="REDACTED",
                 PatientName="REDACTED", SeriesDescription="T2")  # fmt: skip
    write_series(workspace.raw / "b", anatomy((4, 8, 8)), seed="b", patient="REDACTED",
                 PatientName="REDACTED", StudyInstanceUID="1.2", SeriesDescription="T")  # fmt: skip
    write_series(workspace.raw / "c", anatomy((4, 8, 8)), seed="c", patient="P3")
    table(
        workspace, "path,patient,session,modality,role\na/*,Doe,,FLAIR,\nb/*,Roe,,,\nc/*,,,,skip\n"
    )
    manifest = workspace.ingest()
    assert set(manifest.subject) == subjects("Doe", "Roe")
    assert set(manifest[manifest.modality == "FLAIR"].subject) == subjects("Doe")
    assert manifest.patient_known.all()
    assert workspace.codes() == ["skipped"]
    assert workspace.accounts_for_every_file()


def test_rows_name_the_contrasts_of_a_file_of_four(workspace: IngestWorkspace) -> None:
    four = np.stack([anatomy(SHAPE, seed) for seed in range(3)], -1)
    write_nifti(workspace.raw / "sub-01/sub-01_all.nii.gz", four)
    with pytest.raises(InputError, match="several-volumes"):
        workspace.ingest()
    table(
        workspace,
        "path,channel,modality\n**/sub-01_all.nii.gz,0,FLAIR\n**/sub-01_all.nii.gz,2,T1\n",
    )
    manifest = workspace.ingest()
    assert sorted(manifest.modality) == ["FLAIR", "T1"]
    flair = manifest[manifest.modality == "FLAIR"].image.iloc[0]
    assert workspace.load(flair)[0].sum() == anatomy(SHAPE, 0).sum()
    assert workspace.accounts_for_every_file()


def test_the_table_names_patients_slices_and_classes_of_2d_images(
    workspace: IngestWorkspace,
) -> None:
    for number in range(4):
        picture(workspace.raw / f"x/{number}.png", number)
    table(workspace, "path,patient,slice,label,modality\nx/0.png,A,2,,T1\nx/1.png,A,1,,T1\n"
                "x/2.png,B,,1,\nx/3.png,C,,0,\n")  # fmt: skip
    manifest = workspace.ingest()
    assert set(manifest.subject) == subjects("A", "B", "C")
    assert sorted(shape[2] for shape in manifest["shape"]) == [1, 1, 2]
    assert sorted(manifest.label.dropna()) == [0, 1]
    assert sorted(manifest.modality) == ["T1", "other", "other"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,patient\na,b\n", "the first line has file, patient; expected path"),
        ("path,modality\na,T7\n", "line 2: modality is 'T7'; expected one of T1"),
        ("path,role\na,label\n", "line 2: role is 'label'; expected one of image, mask, skip"),
        ("path,channel\na,x\n", "line 2: channel is 'x'; expected a number"),
        ("path,patient\n,x\n", "line 2: the column path is empty"),
        ("path,label\na,3\n", "line 2: label is 3; expected 0 or 1"),
    ],
)
def test_a_wrong_table_ends_in_one_line_that_names_the_place(
    workspace: IngestWorkspace, text: str, message: str
) -> None:
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", anatomy(SHAPE))
    table(workspace, text)
    with pytest.raises(InputError, match=re.escape(message)):
        workspace.ingest()


def test_rows_that_match_no_file_are_reported(
    workspace: IngestWorkspace, capfd: pytest.CaptureFixture[str]
) -> None:
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", anatomy(SHAPE))
    table(workspace, "path,patient\nsub-1_FLAIR.nii.gz,X\nsub-01_FLAIR.nii.gz,Y\n")
    assert set(workspace.ingest().subject) == subjects("Y")
    assert "files.csv has rows for no file of the batch: line 2" in capfd.readouterr().err


# --- auglift scan


def mixed_batch(workspace: IngestWorkspace) -> None:
    """BIDS with visits, DICOM of two visits and a segmentation, pictures, and what nobody knows."""
    for visit in (1, 2):
        stem = f"sub-01/ses-{visit}/anat/sub-01_ses-{visit}"
        write_nifti(workspace.raw / f"{stem}_FLAIR.nii.gz", anatomy(SHAPE, visit))
        write_nifti(workspace.raw / f"{stem}_label-tumor_mask.nii.gz", ball(SHAPE, (4, 4, 4)))
    for visit in ("old", "new"):
        write_series(workspace.raw / f"d/{visit}", anatomy((6, 9, 10)), seed=visit, patient="P7",
                     StudyInstanceUID=f"1.2.{len(visit)}{ord(visit[0])}")  # fmt: skip
    mask = np.zeros((6, 9, 10), np.uint8)
    mask[2:4, 3:6, 3:6] = 1
    write_segmentation(workspace.raw / "d/seg.dcm", workspace.raw / "d/old", mask)
    write_series(
        workspace.raw / "anon", anatomy((4, 8, 8)), seed="x", patient="ANONYM", PatientName=""
    )
    write_nifti(workspace.raw / "Output_3D_File.nii.gz", anatomy(SHAPE, 5))
    write_nifti(workspace.raw / "sub-01/sub-01_desc-brain_mask.nii.gz", ball(SHAPE, (4, 4, 4)))
    picture(workspace.raw / "TCGA_CS_4941_19960909_1.tif", 1)
    picture(workspace.raw / "TCGA_CS_4941_19960909_2.tif", 2)


def test_ingest_with_the_proposed_table_gives_the_same_result(workspace: IngestWorkspace) -> None:
    mixed_batch(workspace)
    before = workspace.ingest()
    refused = pd.read_parquet(workspace.volumes / "rejected.parquet")
    __main__.main("b", force=False)
    after = workspace.ingest()
    pd.testing.assert_frame_equal(before, after)
    assert list(pd.read_parquet(workspace.volumes / "rejected.parquet").code) == list(refused.code)
    rows = pd.read_csv(workspace.raw / "files.csv", dtype=str, keep_default_na=False).set_index(
        "path"
    )
    assert rows.loc["sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz", "patient"] == "01"
    assert rows.loc["d/old/*", "patient"] == "P7"
    assert rows.loc["Output_3D_File.nii.gz"].eq("").all()
    assert rows.loc["anon/*"].eq("").all()


def test_scan_lists_patients_with_examples_and_writes_nothing_else(
    workspace: IngestWorkspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    mixed_batch(workspace)
    before = set(workspace.root.rglob("*"))
    __main__.main("b", force=False)
    message = capsys.readouterr().out
    assert re.search(r"patients\s*│\s*3 │ 01: 2 FLAIR, 2 masks", message)
    assert "01: 1, 2" in message  # visits
    assert re.search(r"masks\s*│\s*3 │", message)
    assert re.search(r"images, FLAIR\s*│\s*5 │", message)
    assert re.search(r"patient-unknown\s*│\s*1 │ Output_3D_File", message)
    assert re.search(r"patient-unknown\s*│\s*4 │ anon/slice000", message)
    new = {
        path.relative_to(workspace.root).as_posix()
        for path in set(workspace.root.rglob("*")) - before
    }
    assert new == {"data/raw/b/files.csv", ".private"}


def test_scan_keeps_the_owners_table_unless_forced(
    workspace: IngestWorkspace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nifti(workspace.raw / "Output_3D_File.nii.gz", anatomy(SHAPE))
    table(workspace, "path,patient\nOutput_3D_File.nii.gz,X\n")
    __main__.main("b", force=False)
    assert (workspace.raw / "files.csv").read_text() == "path,patient\nOutput_3D_File.nii.gz,X\n"
    assert "--force" in capsys.readouterr().out
    __main__.main("b", force=True)
    assert "Output_3D_File.nii.gz,X,,other,image,,," in (workspace.raw / "files.csv").read_text()


def test_scan_ends_in_one_line_for_a_missing_batch(workspace: IngestWorkspace) -> None:
    workspace.raw.mkdir(parents=True)
    with pytest.raises(InputError, match="data/raw/c is not there; found in data/raw: b"):
        __main__.main("c", force=False)
    assert "scan" in CliRunner().invoke(app, ["--help"]).output
