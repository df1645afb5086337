"""Archives, the table series.csv, contrasts, and frames of reference."""

import stat
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet
from pydicom.uid import generate_uid

from tasks.ingest.core.generated_table import insert_table
from tasks.ingest.core.mr_contrast import SequenceTiming, recognise_contrast
from tasks.ingest.core.rejection import TABLE_END, TABLE_START, code_table
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_segmentation, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import ball, one_patient, write_nifti

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


# --- archives


def write_zip(path: Path, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))


def test_an_archive_gives_the_same_volumes_as_its_folder(workspace: IngestWorkspace) -> None:
    folder = workspace.root / "plain"
    write_series(folder / "x", anatomy((4, 8, 8)))
    write_nifti(folder / "sub-02/anat/sub-02_FLAIR.nii.gz", anatomy((8, 9, 10)))
    write_nifti(folder / "derivatives/sub-02_mask.nii.gz", ball((8, 9, 10), (4, 4, 4)))
    write_zip(workspace.raw / "all.zip", folder)
    manifest = workspace.ingest()
    assert sorted(manifest.mask_status) == ["missing", "segmented"]
    assert workspace.codes() == []
    outcomes = workspace.private("files").set_index("path").outcome
    assert outcomes["all.zip"] == "archive"
    assert len(outcomes) == 7
    assert not (workspace.root / ".private/unpacked-b").exists()


def test_a_disc_with_its_directory_is_read_and_the_directory_is_no_image(
    workspace: IngestWorkspace,
) -> None:
    disc = FileSet()
    for patient in ("P1", "P2"):
        write_series(workspace.root / patient, anatomy((4, 8, 8)), patient=patient, seed=patient)
        for path in sorted((workspace.root / patient).glob("*.dcm")):
            disc.add(path)
    disc.write(workspace.raw / "disc")
    assert not list(workspace.raw.rglob("*.dcm"))
    manifest = workspace.ingest()
    assert manifest.subject.nunique() == 2
    assert workspace.codes() == []
    assert workspace.private("files").set_index("path").outcome["disc/DICOMDIR"] == "metadata"
    assert workspace.accounts_for_every_file()


def test_path_tricks_links_and_nested_archives_are_rejected_one_by_one(
    workspace: IngestWorkspace,
) -> None:
    one_patient(workspace)
    with zipfile.ZipFile(workspace.raw / "evil.zip", "w") as archive:
        archive.writestr("../../escaped_FLAIR.nii", b"x" * 400)
        archive.writestr("/etc/escaped_FLAIR.nii", b"x" * 400)
        archive.writestr("inner.zip", b"PK\3\4")
        link = zipfile.ZipInfo("link_FLAIR.nii")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    before = set(workspace.root.iterdir())
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["archive-unsafe"] * 4
    new = {path.name for path in set(workspace.root.iterdir()) - before}
    assert new == {".private", ".locks", "params.yaml"}


def test_backslashes_in_an_archive_made_on_windows_are_folders(workspace: IngestWorkspace) -> None:
    for name in ("P1/flair", "P1/t1", "P1/flair_seg", "P2/flair"):
        data = ball((8, 9, 10), (4, 4, 4)) if "seg" in name else anatomy((8, 9, 10), len(name))
        write_nifti(workspace.root / f"plain/{name}.nii.gz", data)
    workspace.raw.mkdir(parents=True)
    with zipfile.ZipFile(workspace.raw / "ward.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("ward\\P1\\"), b"")
        for path in sorted((workspace.root / "plain").rglob("*.nii.gz")):
            info = zipfile.ZipInfo("x")
            relative = path.relative_to(workspace.root / "plain")
            info.filename = "ward\\" + str(relative).replace("/", "\\")
            archive.writestr(info, path.read_bytes())
    manifest = workspace.ingest()
    assert manifest.subject.nunique() == 2
    assert sorted(manifest.mask_status) == ["missing", "missing", "segmented"]
    assert workspace.codes() == []


def test_an_archive_that_inflates_beyond_its_limit_is_stopped(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    with zipfile.ZipFile(workspace.raw / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.dcm", bytes(30_000_000))
    assert len(workspace.ingest(max_archive_bytes=1_000_000)) == 1
    assert workspace.codes() == ["archive-unsafe"]


def test_a_broken_archive_is_one_row_of_the_rejects(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    (workspace.raw / "broken.zip").write_bytes(b"PK\3\4" + bytes(100))
    workspace.ingest()
    assert workspace.codes() == ["corrupt"]


# --- what a series shows


def test_series_csv_wins_over_all_evidence(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "a", anatomy((4, 8, 8)), seed="a", SeriesDescription="T2 TSE")
    write_series(workspace.raw / "b", anatomy((4, 8, 8)), seed="b", SeriesDescription="T1")
    write_series(workspace.raw / "c", anatomy((4, 8, 8)), seed="c", SeriesDescription="T1")
    uid = pydicom.dcmread(workspace.raw / "a/slice000.dcm").SeriesInstanceUID
    (workspace.raw / "series.csv").write_text(f"series,modality\n{uid},FLAIR\nb/*,skip\n")
    manifest = workspace.ingest()
    assert sorted(zip(manifest.modality, manifest.evidence, strict=True)) == [
        ("FLAIR", "series.csv"), ("T1", "description"),
    ]  # fmt: skip
    assert workspace.codes() == ["skipped"]


def test_a_wrong_line_in_series_csv_is_named(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    (workspace.raw / "series.csv").write_text("series,modality\nx,T7\n")
    with pytest.raises(InputError, match=r"series\.csv, line 2: .*T1c"):
        workspace.ingest()


@pytest.mark.parametrize(
    ("description", "TR", "TE", "TI", "contrast", "modality"),
    [
        ("AX T2 FLAIR FS", 9000, 120, 2500, False, "FLAIR"),
        ("t2_tirm_tra_dark-fluid", 9000, 120, 2500, False, "FLAIR"),
        ("Ax T1 FSE post gad", 600, 10, None, False, "T1c"),
        ("t1_mprage_sag KM", 2000, 3, 900, True, "T1c"),
        ("T1 +C", 600, 10, None, False, "T1c"),
        ("SAG T1 SE", 600, 10, None, False, "T1"),
        ("MPRAGE", 2000, 3, 900, False, "T1"),
        ("AX T2 FSE", 4000, 100, None, False, "T2"),
        ("T2*_GRE", 700, 20, None, False, "other"),
        ("ep2d_diff ADC", 5000, 90, None, False, "other"),
        ("t1 flair sag", 2500, 10, 800, False, "T1"),
        ("series 4", 9000, 120, 2500, False, "FLAIR"),
        ("series 5", 600, 10, None, True, "T1c"),
        ("series 6", 4000, 100, None, False, "T2"),
        ("series 7", None, None, None, False, "other"),
    ],
)
def test_modalities_follow_from_the_description_then_from_the_timing(  # noqa: PLR0917
    description: str, TR: float, TE: float, TI: float, contrast: bool, modality: str
) -> None:
    assert recognise_contrast(description, SequenceTiming(TR, TE, TI, contrast))[0] == modality


WITH_AGENT = [
    "AX T1 POST", "COR T1 C+", "C+ T1", "FSPGR BRAVO +C", "MPRAGE POST GD", "t1_mprage_iso_KM",
    "t1 mit KM", "t1_se_tra_ce", "CE T1", "T1w_gd", "AX T1 W/CONTRAST", "T1-weighted post-contrast",
    "post contrast axial t1", "AX T1 FLAIR POST", "T1_POSTGAD", "BraTS_t1gd", "x_t1ce", "t1c",
    "sub-1_ce-gadolinium_T1w", "sub-1_ce-gad_acq-mprage_T1w", "sub-1_acq-post_T1w",
    "post contrast\nt1_mprage",
]  # fmt: skip
WITHOUT_AGENT = [
    "AX T1 WO CONTRAST", "AX T1 W/O", "AX T1 PRE GAD", "T1 precontrast", "t1 ohne KM", "t1_nativ",
    "BRAIN T1 NON CONTRAST", "AX T1 POST FOSSA", "AX T1 POST OP", "T1 postop", "AX T1 COR",
    "T1 C-SPINE", "AX T1 CUBE", "sub-KM_T1w", "sub-GD_T1w", "KM_T1", "NODULE_T1", "t1n",
    "AX T1 PRE\nBRAIN W/WO CONTRAST",
]  # fmt: skip


@pytest.mark.parametrize(
    ("modality", "descriptions"),
    [
        ("T1c", WITH_AGENT),
        ("T1", WITHOUT_AGENT),
        ("T2", ["AX T2 POST", "t2_blade", "AX T2\nT1 T2 FLAIR"]),
        ("FLAIR", ["AX FLAIR POST", "3D T2 SPACE FLAIR", "sub-POST_FLAIR", "BraTS_t2f"]),
        ("other", ["MRA CE", "ADC T2", "STIR"]),
    ],
)
def test_a_contrast_agent_is_distinguished_from_other_words(
    modality: str, descriptions: list[str]
) -> None:
    remedies = {
        words: recognise_contrast(words, SequenceTiming(None, None, None, False))[0]
        for words in descriptions
    }
    assert remedies == dict.fromkeys(descriptions, modality)


# --- masks and codes


def test_a_mask_of_another_frame_of_reference_is_not_used(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((6, 9, 10)), seed="x")
    write_series(
        workspace.raw / "y", anatomy((6, 9, 10)), seed="y", FrameOfReferenceUID=generate_uid()
    )
    mask = np.zeros((6, 9, 10), np.uint8)
    mask[2:4, 3:6, 3:6] = 1
    write_segmentation(workspace.raw / "seg.dcm", workspace.raw / "y", mask)
    assert sorted(workspace.ingest().mask_status) == ["missing", "segmented"]


def test_the_document_holds_the_current_table_of_codes() -> None:
    document = (Path(__file__).parents[2] / "docs/ingest.md").read_text(encoding="utf-8")
    assert TABLE_START + code_table() + TABLE_END in document, (
        "run python -m tasks.ingest.core.rejection docs/ingest.md"
    )
    assert insert_table(document, TABLE_START, TABLE_END, code_table()) == document


def test_a_map_of_probabilities_is_not_a_label_mask(workspace: IngestWorkspace) -> None:
    write_nifti(workspace.raw / "a_FLAIR.nii.gz", anatomy((5, 9, 10)))
    write_nifti(workspace.raw / "a_FLAIR_mask.nii.gz", np.full((5, 9, 10), 0.3, np.float32))
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["labels-unknown"]
