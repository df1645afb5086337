"""DICOM segmentations written by highdicom, and the choice of tumour segments."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.masks.segment_codes import PART_OF_CODE, SNOMED_RT, normalise_code, part_by_code
from tasks.ingest.masks.segment_names import Segment, tumour_part, tumour_segments
from tests.tasks.dicom_cases import (
    anatomy,
    rotation,
    tumour,
    write_segmentation,
    write_series,
    write_structures,
)
from tests.tasks.ingest_fixtures import IngestWorkspace, assert_volume_equals

BRATS = {1: "Necrotic tumor core", 2: "Peritumoral edema", 3: "Enhancing tumor"}
PEDIATRIC = {1: "ET", 2: "NET", 3: "CC", 4: "ED"}
EDEMA, NEOPLASM, BRAIN = ("SCT", "79654002"), ("SCT", "108369006"), ("SCT", "12738006")
HIPPOCAMPUS = ("SCT", "5366008")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


# --- names and codes


@pytest.mark.parametrize(
    ("names", "rule", "chosen"),
    [
        (BRATS, "whole", [1, 2, 3]),
        (BRATS, "core", [1, 3]),
        (BRATS, "enhancing", [3]),
        (BRATS, [2], [2]),
        ({1: "Non-enhancing tumor", 2: "ET"}, "enhancing", [2]),
        ({1: "Necrotic and non-enhancing tumor core", 2: "Edema"}, "core", [1]),
        ({1: "Brain", 2: "Tumor"}, "whole", [2]),
        ({1: "Edema"}, "core", []),
        (PEDIATRIC, "whole", [1, 2, 3, 4]),
        (PEDIATRIC, "core", [1, 2, 3]),
        ({1: "GTV", 2: "CC"}, "whole", [1]),
    ],
)
def test_segments_are_chosen_by_their_names(names, rule, chosen) -> None:
    segments = {number: Segment(name) for number, name in names.items()}
    assert tumour_segments(segments, rule) == chosen


TUMOURS = """
GTV  gtv1  GTVp  GTV-N  GTV_T1+C  GTVp_60Gy  GTV brainstem|WHOLE TUMOR|Whole tumour|WT|tumor
Tumor_1  TumorCore  enhancingTumor|Non-enhancing tumor|ring enhancing lesion|Edema|Ödem|Oedème
Peritumoral edema|peritumoural oedema|metastasis  mets|brain metastases|Met 3|brain tumor
Brain Tumour|brainstem glioma|optic glioma|Glioblastom|Meningioma left|FLAIR abnormality
Necrotic core|tumor and edema|post-op tumor|residual tumour|left frontal lesion|pituitary adenoma
tumeur|GBM  HGG  LGG|Gross Tumor Volume
"""
OTHERS = """
Brain-GTV|brain minus GTV|BrainGTV|brain - tumor|Brain_sub_GTV|whole brain|Whole Brain|hippocampus
Hippocampus_L  Brainstem  BrainStem|PTV|CTV_60|PTV-GTV|CTV GTV|GTV+5mm|GTV_2cm|GTV_exp|GTV ring
zGTVopt|GTV_ring|GTV_eval|non-tumour|non tumor|not tumor|no tumor|tumor free|Normal brain
healthy tissue|Contralateral tumor|mirror GTV|peritumoral region|resection cavity|tumor bed
white matter lesion|MS lesion|stroke|meninges|Radiation necrosis|brain and tumor|optic nerve
External|BODY|AVOID_GTV|mass effect|50%|GM|WM|CSF|Background|arachnoid cyst|Segment_1|ROI-1|Tissue
Lens_R|Chiasm|clinical target volume|hemorrhage|vessel enhancing|GTV_not_used
"""


def listed(words: str) -> list[str]:
    return [
        word.strip()
        for line in words.strip().splitlines()
        for part in line.split("|")
        for word in part.split("  ")
    ]


@pytest.mark.parametrize("name", listed(TUMOURS))
def test_names_of_tumours_count_as_tumour(name: str) -> None:
    assert tumour_segments({1: Segment(name), 2: Segment("Brain")}, "whole") == [1]


@pytest.mark.parametrize("name", listed(OTHERS))
def test_names_of_other_structures_do_not_count(name: str) -> None:
    assert tumour_segments({1: Segment(name), 2: Segment("GTV")}, "whole") == [2]
    with pytest.raises(RejectionError, match="not-a-tumour-mask"):
        tumour_segments({1: Segment(name)}, "whole")


@pytest.mark.parametrize(
    ("label", "code", "part"),
    [
        ("Segment_1", NEOPLASM, "tumour"),
        ("Segment_1", ("SRT", "M-8FFFF"), "tumour"),
        ("Segment_1", ("99SDM", "M-94403"), "tumour"),  # glioblastoma in ICD-O
        ("Segment_1", ("SRT", "M-01000"), None),  # a morphologically altered structure: of any kind
        ("Segment_1", ("NCIt", "C113842"), "enhancing"),
        ("Segment_1", EDEMA, "edema"),
        ("Tumor", ("SCT", "6574001"), "core"),  # the code says more than the name
        ("Enhancing", NEOPLASM, "enhancing"),  # and the other way round
        ("Left frontal lobe", NEOPLASM, "tumour"),
        ("Tumor", BRAIN, "tumour"),
        ("Hippocampus", NEOPLASM, None),  # they contradict each other
        ("brain minus tumor", NEOPLASM, None),
        ("Segment_1", HIPPOCAMPUS, None),
        ("Target", ("SCT", "228793007"), None),  # a planning target volume
        ("Target", ("SCT", "228791009"), "core"),
        ("", ("", ""), None),
    ],
)
def test_codes_decide_where_names_do_not(
    label: str, code: tuple[str, str], part: str | None
) -> None:
    assert tumour_part(Segment(label, normalise_code(*code))) == part


def test_the_codes_in_the_table_are_those_of_the_standard() -> None:
    """Compare with pydicom's dictionaries (PS3.16), the oracle for the meaning of codes."""
    from pydicom.sr._snomed_dict import mapping

    meant = {
        "tumour": (
            codes.SCT.Neoplasm, codes.SCT.NeoplasmPrimary, codes.SCT.NeoplasmSecondary,
            codes.SCT.Mass, codes.SCT.Nodule, codes.SCT.Lesion, codes.SCT.LesionOfBrain,
            codes.SCT.Metastasis, codes.SCT.Glioblastoma, codes.SCT.Astrocytoma,
            codes.SCT.Lymphoma,
        ),
        "core": (codes.SCT.GTV, codes.DCM.GTVPrimary, codes.DCM.GTVNodal, codes.SCT.Necrosis),
        "enhancing": (codes.NCIt.EnhancingLesion,),
        "non-enhancing": (codes.NCIt.NonEnhancingLesion,),
        "edema": (codes.SCT.Edema,),
        "cyst": (codes.SCT.Cyst,),
    }  # fmt: skip
    for part, concepts in meant.items():
        for code in concepts:
            assert part_by_code(normalise_code(code.scheme_designator, code.value)) == part
    for old, new in SNOMED_RT.items():
        assert mapping["SRT"][old] == new
    assert not {HIPPOCAMPUS, BRAIN, ("SCT", codes.SCT.Hemorrhage.value)} & set(PART_OF_CODE)


def test_mask_segments_lists_the_segments_that_are_tumour() -> None:
    segments = {1: Segment("Segment_1"), 2: Segment("Brain"), 3: Segment("tumor")}
    assert tumour_segments(segments, "whole", ["segment_1"]) == [1]
    assert tumour_segments(segments, "core", [2, "Segment_1 "]) == [1, 2]
    assert tumour_segments(segments, [3], ["Segment_1"]) == [1]
    assert tumour_segments(segments, "whole", ["Segment_9"]) == [3]  # of another mask


# --- files


def test_a_label_map_is_a_mask_and_never_an_image(workspace: IngestWorkspace) -> None:
    pixels, mask = anatomy((7, 9, 10)), tumour((7, 9, 10))
    affine = write_series(workspace.raw / "x", pixels)
    mask[5, 2:4, 2:4] = 2
    segments = {"Edema": EDEMA, "Hippocampus": HIPPOCAMPUS}
    write_segmentation(
        workspace.raw / "x/seg.dcm", workspace.raw / "x", mask, kind="LABELMAP", segments=segments,
        series_description="FLAIR tumor segmentation",
    )  # fmt: skip
    manifest = workspace.ingest()
    assert list(manifest.mask_status) == ["segmented"]
    assert_volume_equals(workspace, manifest["mask"][0], mask == 1, affine)
    assert workspace.codes() == []


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
def test_a_fractional_segmentation_is_cut_at_half(workspace: IngestWorkspace, kind: str) -> None:
    affine = write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    share = np.zeros((7, 9, 10, 1))
    share[1:6, 2:7, 2:8] = 0.3
    share[2:5, 3:6, 3:7] = 0.7
    write_segmentation(
        workspace.raw / "x/s.dcm",
        workspace.raw / "x",
        share,
        kind="FRACTIONAL",
        fractional_type=kind,
    )
    manifest = workspace.ingest()
    assert_volume_equals(workspace, manifest["mask"][0], share[..., 0] >= 0.5, affine)


def test_fractions_of_segments_add_up_only_where_they_do_not_overlap(
    workspace: IngestWorkspace,
) -> None:
    write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    share = np.zeros((7, 9, 10, 2))
    share[2:5, 3:6, 3:7] = 0.3
    share[2, 3:6, 3:7, 0] = 0.6
    path = workspace.raw / "x/s.dcm"
    write_segmentation(path, workspace.raw / "x", share, kind="FRACTIONAL")
    for overlap, voxels in (("NO", 36), ("UNDEFINED", 12), ("YES", 12)):
        dataset = pydicom.dcmread(path)
        dataset.SegmentsOverlap = overlap
        dataset.save_as(path)
        assert workspace.load(workspace.ingest()["mask"][0])[0].sum() == voxels


def test_fractions_that_never_reach_half_do_not_count_as_no_tumour(
    workspace: IngestWorkspace,
) -> None:
    write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    share = np.full((7, 9, 10, 1), 0.2)
    write_segmentation(workspace.raw / "x/s.dcm", workspace.raw / "x", share, kind="FRACTIONAL")
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["labels-unknown"]


@pytest.mark.parametrize(
    "segments", [{"hippocampus": HIPPOCAMPUS}, {"Whole brain": BRAIN}, {"Segment_1": BRAIN}]
)
def test_a_segmentation_of_an_organ_is_no_tumour(
    workspace: IngestWorkspace, segments: dict[str, tuple[str, str]]
) -> None:
    affine = write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    mask = tumour((7, 9, 10))
    write_segmentation(workspace.raw / "x/s.dcm", workspace.raw / "x", mask, segments=segments)
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["not-a-tumour-mask"]
    assert workspace.accounts_for_every_file()
    manifest = workspace.ingest(mask_segments=list(segments))
    assert_volume_equals(workspace, manifest["mask"][0], mask, affine)


@pytest.mark.parametrize("omit", [False, True])
def test_a_segmentation_without_frame_of_reference_is_placed_by_its_frames(
    workspace: IngestWorkspace, omit: bool
) -> None:
    turn = rotation(np.random.default_rng(3))
    affine = write_series(
        workspace.raw / "x", anatomy((7, 9, 10)), orientation=(*turn[:, 0], *turn[:, 1])
    )
    mask = tumour((7, 9, 10))
    mask[6, 1, 1] = 1  # so that planes 4 and 5 are left out between others
    write_segmentation(workspace.raw / "x/s.dcm", workspace.raw / "x", mask, omit_empty_frames=omit)
    for path in (workspace.raw / "x").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.FrameOfReferenceUID
        dataset.save_as(path)
    manifest = workspace.ingest()
    assert_volume_equals(workspace, manifest["mask"][0], mask, affine)


def test_one_plane_of_a_segmentation_has_the_declared_thickness(workspace: IngestWorkspace) -> None:
    affine = write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    mask = np.zeros((7, 9, 10), np.uint8)
    mask[3, 2:6, 2:6] = 1
    write_segmentation(workspace.raw / "x/s.dcm", workspace.raw / "x", mask, omit_empty_frames=True)
    assert_volume_equals(workspace, workspace.ingest()["mask"][0], mask, affine)


def test_scan_lists_segments_and_what_they_count_as(
    workspace: IngestWorkspace, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.commands.scan.__main__ import main

    write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    segments = {"Segment_1": BRAIN, "ET": NEOPLASM}
    mask = tumour((7, 9, 10))
    mask[5, 1, 1] = 2
    write_segmentation(workspace.raw / "x/s.dcm", workspace.raw / "x", mask, segments=segments)
    write_structures(workspace.raw / "x/r.dcm", workspace.raw / "x", {"Brain-GTV": None})
    main("b", force=False)
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    rows = {cells[0].strip(): cells[2].strip() for cells in lines if len(cells) == 4}
    assert rows["ET"] == "enhancing tumour"
    assert rows["Segment_1"] == rows["Brain-GTV"] == "nothing"


def test_a_surface_segmentation_is_rejected_as_a_mask_that_is_not_read(
    workspace: IngestWorkspace,
) -> None:
    def change(_: int, dataset: FileDataset) -> None:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.5"
        for name in ("Rows", "Columns", "PixelData"):
            delattr(dataset, name)

    write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    write_series(workspace.raw / "s", anatomy((1, 9, 10)), seed="s", change=change)
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["mask-format"]


@pytest.mark.parametrize(
    ("description", "codes", "status"),
    [
        ("FLAIR tumor segmentation", [], "segmented"),
        ("brain mask", ["not-a-tumour-mask"], "missing"),
        ("segmentation", ["not-a-tumour-mask"], "missing"),
    ],
)
def test_labels_in_a_plain_series_are_a_mask(
    workspace: IngestWorkspace, description: str, codes: list[str], status: str
) -> None:
    affine = write_series(workspace.raw / "x", anatomy((7, 9, 10)))
    mask = tumour((7, 9, 10)).astype(np.uint16)
    write_series(workspace.raw / "s", mask, seed="s", SeriesDescription=description)
    manifest = workspace.ingest()
    assert list(manifest.mask_status) == [status]
    assert workspace.codes() == codes
    if status == "segmented":
        assert_volume_equals(workspace, manifest["mask"][0], mask, affine)


def test_greys_whose_description_names_a_mask_stay_an_image(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((7, 9, 10)), SeriesDescription="T1 CE MRA MASK")
    write_series(
        workspace.raw / "y", anatomy((7, 9, 10)), seed="y", FrameOfReferenceUID=generate_uid()
    )
    assert len(workspace.ingest()) == 2
