"""Archives, override tables, structure sets and segment names."""

import stat
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tasks.ingest.modality import Timing, recognise
from tasks.ingest.refusal import TABLE_END, TABLE_START, table_of_codes, with_table
from tasks.ingest.segments import tumour_segments
from tasks.stage import StageError

from .dicom_cases import anatomy, rotation, write_segmentation, write_series
from .ingest_room import Room, canonical
from .test_ingest_nifti import ball, one_patient, write_nifti

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    return Room(tmp_path)


# --- archives


def zip_of(path: Path, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))


def test_an_archive_is_as_good_as_its_folder(room: Room) -> None:
    folder = room.root / "plain"
    write_series(folder / "x", anatomy((4, 8, 8)))
    write_nifti(folder / "sub-02/anat/sub-02_FLAIR.nii.gz", anatomy((8, 9, 10)))
    write_nifti(folder / "derivatives/sub-02_mask.nii.gz", ball((8, 9, 10), (4, 4, 4)))
    zip_of(room.raw / "all.zip", folder)
    manifest = room.ingest()
    assert sorted(manifest.mask_status) == ["missing", "segmented"]
    assert room.codes() == []
    outcomes = room.private("files").set_index("path").outcome
    assert outcomes["all.zip"] == "archive"
    assert len(outcomes) == 7
    assert not (room.root / ".private/unpacked-b").exists()


def test_a_disc_with_its_directory_is_read_and_the_directory_is_no_image(room: Room) -> None:
    disc = FileSet()
    for patient in ("P1", "P2"):
        write_series(room.root / patient, anatomy((4, 8, 8)), patient=patient, seed=patient)
        for path in sorted((room.root / patient).glob("*.dcm")):
            disc.add(path)
    disc.write(room.raw / "disc")
    assert not list(room.raw.rglob("*.dcm"))
    manifest = room.ingest()
    assert manifest.subject.nunique() == 2
    assert room.codes() == []
    assert room.private("files").set_index("path").outcome["disc/DICOMDIR"] == "metadata"
    assert room.accounts_for_every_file()


def test_path_tricks_links_and_nested_archives_are_refused_one_by_one(room: Room) -> None:
    one_patient(room)
    with zipfile.ZipFile(room.raw / "evil.zip", "w") as archive:
        archive.writestr("../../escaped_FLAIR.nii", b"x" * 400)
        archive.writestr("/etc/escaped_FLAIR.nii", b"x" * 400)
        archive.writestr("inner.zip", b"PK\3\4")
        link = zipfile.ZipInfo("link_FLAIR.nii")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    before = set(room.root.iterdir())
    assert len(room.ingest()) == 1
    assert room.codes() == ["archive-unsafe"] * 4
    new = {path.name for path in set(room.root.iterdir()) - before}
    assert new == {".private", ".locks", "params.yaml"}


def test_an_archive_that_inflates_beyond_its_limit_is_stopped(room: Room) -> None:
    one_patient(room)
    with zipfile.ZipFile(room.raw / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.dcm", bytes(30_000_000))
    assert len(room.ingest(max_archive_bytes=1_000_000)) == 1
    assert room.codes() == ["archive-unsafe"]


def test_a_broken_archive_is_a_row(room: Room) -> None:
    one_patient(room)
    (room.raw / "broken.zip").write_bytes(b"PK\3\4" + bytes(100))
    room.ingest()
    assert room.codes() == ["corrupt"]


# --- what a series shows


def test_series_csv_wins_over_all_evidence(room: Room) -> None:
    write_series(room.raw / "a", anatomy((4, 8, 8)), seed="a", SeriesDescription="T2 TSE")
    write_series(room.raw / "b", anatomy((4, 8, 8)), seed="b", SeriesDescription="T1")
    write_series(room.raw / "c", anatomy((4, 8, 8)), seed="c", SeriesDescription="T1")
    uid = pydicom.dcmread(room.raw / "a/slice000.dcm").SeriesInstanceUID
    (room.raw / "series.csv").write_text(f"series,modality\n{uid},FLAIR\nb/*,skip\n")
    manifest = room.ingest()
    assert sorted(zip(manifest.modality, manifest.evidence, strict=True)) == [
        ("FLAIR", "series.csv"), ("T1", "description"),
    ]  # fmt: skip
    assert room.codes() == ["skipped"]


def test_a_wrong_line_in_series_csv_is_named(room: Room) -> None:
    one_patient(room)
    (room.raw / "series.csv").write_text("series,modality\nx,T7\n")
    with pytest.raises(StageError, match=r"series\.csv, line 2: .*T1c"):
        room.ingest()


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
def test_modalities_are_told_by_description_then_by_sequence(  # noqa: PLR0917
    description: str, TR: float, TE: float, TI: float, contrast: bool, modality: str
) -> None:
    assert recognise(description, Timing(TR, TE, TI, contrast))[0] == modality


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
def test_a_contrast_agent_is_told_from_other_words(modality: str, descriptions: list[str]) -> None:
    found = {words: recognise(words, Timing(None, None, None, False))[0] for words in descriptions}
    assert found == dict.fromkeys(descriptions, modality)


# --- masks from radiotherapy and from segmentations


def write_structures(path: Path, series: Path, regions: dict[str, list[np.ndarray]]) -> None:
    """An RT structure set with, for each region, contours of (N,3) LPS+ mm."""
    image = pydicom.dcmread(next(series.glob("*.dcm")))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = STRUCTURE_SET
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = STRUCTURE_SET
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "RTSTRUCT"
    dataset.PatientID, dataset.StudyInstanceUID = image.PatientID, image.StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[str(path), "series"])
    frame = Dataset()
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, name
        dataset.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.6f}" for value in points.ravel()]
            drawn.ContourSequence.append(contour)
        dataset.ROIContourSequence.append(drawn)
    dataset.save_as(path, enforce_file_format=True)


def outline(affine: np.ndarray, low: tuple[float, float], high: tuple[float, float], k: int):
    """A rectangle in voxel coordinates on slice k, as (4,3) LPS+ mm."""
    (a, b), (c, d) = low, high
    corners = np.array([[a, b, k, 1], [c, b, k, 1], [c, d, k, 1], [a, d, k, 1]])
    return (corners @ affine.T)[:, :3] * [-1, -1, 1]


def test_contours_are_filled_on_their_slices_with_holes(room: Room) -> None:
    turn = rotation(np.random.default_rng(5))
    pixels = anatomy((6, 20, 24))
    affine = write_series(room.raw / "x", pixels, orientation=(*turn[:, 0], *turn[:, 1]))
    regions = {
        "GTV": [
            outline(affine, (3.5, 2.5), (12.5, 9.5), 2),
            outline(affine, (5.5, 4.5), (7.5, 6.5), 2),
            outline(affine, (3.5, 2.5), (6.5, 5.5), 3),
        ],
        "Brain": [outline(affine, (0.5, 0.5), (20.5, 15.5), 4)],
    }
    write_structures(room.raw / "x/structures.dcm", room.raw / "x", regions)
    manifest = room.ingest()
    truth = np.zeros((24, 20, 6), np.uint8)
    truth[4:13, 3:10, 2] = 1
    truth[6:8, 5:7, 2] = 0
    truth[4:7, 3:6, 3] = 1
    found = room.load(manifest["mask"][0])[0]
    assert np.array_equal(found, canonical(truth, affine).get_fdata())
    assert room.codes() == []


def test_contours_across_the_slices_are_refused(room: Room) -> None:
    affine = write_series(room.raw / "x", anatomy((6, 20, 24)))
    slanted = outline(affine, (3, 3), (12, 12), 2)
    slanted[2:, 2] += 8
    write_structures(room.raw / "x/structures.dcm", room.raw / "x", {"tumor": [slanted]})
    assert list(room.ingest().mask_status) == ["missing"]
    assert room.codes() == ["geometry"]


def test_a_structure_set_of_organs_is_no_tumour_mask(room: Room) -> None:
    affine = write_series(room.raw / "x", anatomy((6, 20, 24)))
    organs = {name: [outline(affine, (3, 3), (12, 12), 2)] for name in ("Brain", "Lens_L")}
    write_structures(room.raw / "x/structures.dcm", room.raw / "x", organs)
    assert list(room.ingest().mask_status) == ["missing"]
    assert room.codes() == ["not-a-tumour-mask"]


def test_a_mask_of_another_frame_of_reference_is_not_used(room: Room) -> None:
    write_series(room.raw / "x", anatomy((6, 9, 10)), seed="x")
    write_series(room.raw / "y", anatomy((6, 9, 10)), seed="y", FrameOfReferenceUID=generate_uid())
    mask = np.zeros((6, 9, 10), np.uint8)
    mask[2:4, 3:6, 3:6] = 1
    write_segmentation(room.raw / "seg.dcm", room.raw / "y", mask)
    assert sorted(room.ingest().mask_status) == ["missing", "segmented"]


BRATS = {1: "Necrotic tumor core", 2: "Peritumoral edema", 3: "Enhancing tumor"}


@pytest.mark.parametrize(
    ("names", "rule", "chosen"),
    [
        (BRATS, "whole", [1, 2, 3]),
        (BRATS, "core", [1, 3]),
        (BRATS, "enhancing", [3]),
        (BRATS, [2], [2]),
        ({1: "Non-enhancing tumor", 2: "ET"}, "enhancing", [2]),
        ({1: "Brain", 2: "Tumor"}, "whole", [2]),
        ({1: "Segment_1 Tissue"}, "whole", [1]),
        ({1: "Edema"}, "core", []),
    ],
)
def test_segments_are_chosen_by_their_names(names, rule, chosen) -> None:
    assert tumour_segments(names, rule) == chosen


def test_the_documents_table_of_codes_is_the_codes() -> None:
    document = (Path(__file__).parents[2] / "docs/ingest.md").read_text(encoding="utf-8")
    assert TABLE_START + table_of_codes() + TABLE_END in document, (
        "run python -m tasks.ingest.refusal docs/ingest.md"
    )
    assert with_table(document) == document


def test_probabilities_are_no_labels(room: Room) -> None:
    write_nifti(room.raw / "a_FLAIR.nii.gz", anatomy((5, 9, 10)))
    write_nifti(room.raw / "a_FLAIR_mask.nii.gz", np.full((5, 9, 10), 0.3, np.float32))
    assert list(room.ingest().mask_status) == ["missing"]
    assert room.codes() == ["labels-unknown"]
