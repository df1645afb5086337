"""The phantom under the names of every layout: the same people, visits and masks each time."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tasks.ingest.core.generated_table import insert_table
from tasks.ingest.filenames.layouts import (
    TABLE_END,
    TABLE_START,
    layout_table,
    read_layouts,
)
from tasks.ingest.filenames.parse_filenames import Sidecars, parse_filenames
from tasks.ingest.masks.label_conventions import BINARY, CONVENTIONS
from tasks.ingest.privacy.pseudonyms import DEMO_KEY, Pseudonyms
from tasks.phantom.simulator import Simulator
from tasks.slices.__main__ import main as slices
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.slices_fixtures import BASE
from tests.tasks.slices_fixtures import patient as ellipsoid

People = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]  # (person, visit) to volume and mask
AFFINE = np.diag([-3.0, -3.0, 6.0, 1.0])
# Of each layout, or variant of one, the names of an image and its mask.
NAMES = {
    "bids": ("sub-{p:02d}/ses-{v}/anat/sub-{p:02d}_ses-{v}_FLAIR",
             "derivatives/m/sub-{p:02d}/ses-{v}/anat/sub-{p:02d}_ses-{v}_label-tumor_mask"),
    "brats-2024": ("BraTS-GLI-0000{p}-10{v}/BraTS-GLI-0000{p}-10{v}-t2f",
                   "BraTS-GLI-0000{p}-10{v}/BraTS-GLI-0000{p}-10{v}-seg"),
    "brats-2023": ("BraTS-GLI-0000{p}-00{v}/BraTS-GLI-0000{p}-00{v}-t2f",
                   "BraTS-GLI-0000{p}-00{v}/BraTS-GLI-0000{p}-00{v}-seg"),
    "brats-peds": ("BraTS-PED-0000{p}-00{v}/BraTS-PED-0000{p}-00{v}-t2f",
                   "BraTS-PED-0000{p}-00{v}/BraTS-PED-0000{p}-00{v}-seg"),
    "brats-met": ("BraTS-MET-0000{p}-00{v}/BraTS-MET-0000{p}-00{v}-t2f",
                  "BraTS-MET-0000{p}-00{v}/BraTS-MET-0000{p}-00{v}-seg"),
    "brats-men": ("BraTS-MEN-0000{p}-00{v}/BraTS-MEN-0000{p}-00{v}-t2f",
                  "BraTS-MEN-0000{p}-00{v}/BraTS-MEN-0000{p}-00{v}-seg"),
    "brats-men-rt": ("BraTS-MEN-RT-000{p}-{v}/BraTS-MEN-RT-000{p}-{v}_t2f",
                     "BraTS-MEN-RT-000{p}-{v}/BraTS-MEN-RT-000{p}-{v}_gtv"),
    "brats-2021": ("BraTS2021_0000{p}/BraTS2021_0000{p}_flair",
                   "BraTS2021_0000{p}/BraTS2021_0000{p}_seg"),
    "brats-2020": ("Training/BraTS20_Training_35{p}/BraTS20_Training_35{p}_flair",
                   "Training/BraTS20_Training_35{p}/W39_1998.09.1{p}_Segm"),
    "brats-2017-2019": ("HGG/Brats18_CBICA_AA{p}_{v}/Brats18_CBICA_AA{p}_{v}_flair",
                        "HGG/Brats18_CBICA_AA{p}_{v}/Brats18_CBICA_AA{p}_{v}_seg"),
    "brats-2015": ("train/brats_tcia_pat10{p}_000{v}/Flair_subtrMeanDivStd",
                   "train/brats_tcia_pat10{p}_000{v}/OTMultiClass"),
    "brats-2012": ("BRATS_HG000{p}/BRATS_HG000{p}_FLAIR", "BRATS_HG000{p}/BRATS_HG000{p}_truth"),
    "ucsf-pdgm": ("UCSF-PDGM-v3/UCSF-PDGM-000{p}{fu}_nifti/UCSF-PDGM-000{p}{fu}_FLAIR",
                  "UCSF-PDGM-v3/UCSF-PDGM-000{p}{fu}_nifti/UCSF-PDGM-000{p}{fu}_tumor_segmentation"),
    "upenn-gbm": ("images_structural/UPENN-GBM-0000{p}_{v}1/UPENN-GBM-0000{p}_{v}1_FLAIR",
                  "images_segm/UPENN-GBM-0000{p}_{v}1_segm"),
    "lumiere": ("Imaging/Patient-00{p}/week-0{v}4/FLAIR",
                "Imaging/Patient-00{p}/week-0{v}4/DeepBraTumIA-segmentation/native/segmentation/"
                "flair_seg_mask"),
    "mu-glioma-post": ("PatientID_000{p}/Timepoint_{v}/PatientID_000{p}_Timepoint_{v}_brain_t2f",
                       "PatientID_000{p}/Timepoint_{v}/PatientID_000{p}_Timepoint_{v}_tumorMask"),
    "tcga-glistrboost": ("TCGA-02-000{p}/TCGA-02-000{p}_199{v}.08.23_flair",
                         "TCGA-02-000{p}/TCGA-02-000{p}_199{v}.08.23_GlistrBoost"),
    "fets": ("FeTS2022_0134{p}/FeTS2022_0134{p}_flair", "FeTS2022_0134{p}/FeTS2022_0134{p}_seg"),
    "rhuh-gbm": ("RHUH-000{p}/{v}/RHUH-000{p}_{v}_flair",
                 "RHUH-000{p}/{v}/RHUH-000{p}_{v}_segmentations"),
    "ivygap": ("W{p}_199{v}.07.21/W{p}_199{v}.07.21_flair",
               "W{p}_199{v}.07.21/W{p}_199{v}.07.21_seg"),
    "nnunet": ("imagesTr/glioma_00{p}_0000", "labelsTr/glioma_00{p}"),
    "decathlon": ("imagesTr/heart_{p:03d}", "labelsTr/heart_{p:03d}"),
    "dcm2niix": ("P{p}/scan_AX_FLAIR_2020010{v}101500_5",
                 "P{p}/scan_AX_FLAIR_2020010{v}101500_5_seg"),
    "a folder a patient": ("Patient {p}/week-{v}/flair", "Patient {p}/week-{v}/seg"),
    "folders of names": ("study/train/{name}/visit{v}/t2 flair",
                         "study/train/{name}/visit{v}/mask"),
    "a folder a visit": ("{name}_2020-01-0{v}/{name}_FLAIR",
                         "{name}_2020-01-0{v}/{name}_FLAIR_seg"),
    "flat names": ("P{p}_v{v}_FLAIR", "P{p}_v{v}_FLAIR_mask"),
    "dcm2niix, flat": ("P{p}_AX_FLAIR_2020010{v}101500_5", "P{p}_AX_FLAIR_2020010{v}101500_5_seg"),
    "nnunet, flat": ("HGH_00{p}_0000", "HGH_00{p}"),
    "images and labels": ("images/case_{p:02d}_flair", "labels/case_{p:02d}_seg"),
}  # fmt: skip
WITHOUT_VISITS = {"brats-2021", "brats-2020", "brats-2012", "nnunet", "decathlon",
                  "images and labels", "fets", "nnunet, flat",
                  "msd-brain-tumour", "kaggle-lgg"}  # fmt: skip
VARIANTS = {"a folder a patient", "folders of names", "a folder a visit", "flat names",
            "images and labels", "dcm2niix, flat", "nnunet, flat"}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


@pytest.fixture(scope="module")
def people() -> People:
    """Three people of the phantom, the first of them scanned twice; small."""
    found: People = {}
    for person in (1, 2, 3):
        simulated = Simulator(5).patient(person, has_tumor=True)
        volume = np.rint(simulated.volume[::4, ::4, ::3]).astype(np.int16)
        found[person, 1] = volume, simulated.mask[::4, ::4, ::3].astype(np.uint8)
    volume, mask = found[1, 1]
    later = mask.copy()
    later[tuple(np.argwhere(mask)[0])] = 0
    found[1, 2] = (volume * 0.9).astype(np.int16), later
    return dict(sorted(found.items()))


def write(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), path)


def write_named(raw: Path, people: People, layout: str) -> None:
    """A NIfTI file an image and a mask under a layout's names."""
    for (person, visit), (volume, mask) in people.items():
        words = {
            "p": person, "v": visit, "fu": "_FU007d" if visit == 2 else "",
            "name": ("Doe", "Roe", "Poe")[person - 1],
        }  # fmt: skip
        for template, data in zip(NAMES[layout], (volume, mask), strict=True):
            write(raw / f"{template.format(**words)}.nii.gz", data)
    if layout.startswith("nnunet"):
        (raw / "dataset.json").write_text('{"channel_names": {"0": "FLAIR"}, "labels": {}}')
    if layout == "decathlon":
        (raw / "dataset.json").write_text('{"modality": {"0": "FLAIR"}}')


def write_msd(raw: Path, people: People, _: str) -> None:
    """Four contrasts in a file: FLAIR, T1, T1 with contrast agent, T2."""
    for (person, _visit), (volume, mask) in people.items():
        four = np.stack([volume, volume // 2, volume // 3, volume // 4], -1)
        write(raw / f"Task01_BrainTumour/imagesTr/BRATS_00{person}.nii.gz", four)
        write(raw / f"Task01_BrainTumour/labelsTr/BRATS_00{person}.nii.gz", mask)
        write(raw / f"Task01_BrainTumour/imagesTr/._BRATS_00{person}.nii.gz", mask)


def write_kaggle(raw: Path, people: People, _: str) -> None:
    """Slices as coloured TIFFs, the whole folder a second time inside another."""
    for (person, _visit), (volume, mask) in people.items():
        stem = f"TCGA_CS_494{person}_19960909"
        for number in range(volume.shape[2]):
            grey = (volume[..., number] / max(volume.max(), 1) * 255).clip(0).astype(np.uint8)
            colours = np.stack([grey // 2, grey, grey // 3], -1)
            for above in ("kaggle_3m", "lgg-mri-segmentation/kaggle_3m"):
                folder = raw / above / stem
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(colours).save(folder / f"{stem}_{number + 1}.tif")
                drawn = Image.fromarray(mask[..., number] * 255)
                drawn.save(folder / f"{stem}_{number + 1}_mask.tif")


WRITERS: dict[str, Callable[[Path, People, str], None]] = {
    **dict.fromkeys(NAMES, write_named),
    "msd-brain-tumour": write_msd,
    "kaggle-lgg": write_kaggle,
}


def test_every_layout_of_the_table_is_tested_here_and_names_its_documentation() -> None:
    layouts, _ = read_layouts()
    assert {layout.name for layout in layouts} == set(WRITERS) - VARIANTS
    assert all(layout.documented.startswith(("http", "www")) for layout in layouts)
    assert all(layout.title for layout in layouts)


def test_the_document_holds_the_current_list_of_layouts() -> None:
    document = (Path(__file__).parents[2] / "docs/ingest.md").read_text(encoding="utf-8")
    assert TABLE_START + layout_table() + TABLE_END in document, (
        "run python -m tasks.ingest.filenames.layouts docs/ingest.md"
    )
    assert insert_table(document, TABLE_START, TABLE_END, layout_table()) == document


def test_label_conventions_of_layouts_are_known() -> None:
    named = {layout.labels for layout in read_layouts()[0]} - {None}
    assert named <= {*CONVENTIONS, BINARY}


@pytest.mark.parametrize("layout", sorted(WRITERS))
def test_the_phantom_under_any_layout_gives_the_same_patients_with_the_same_masks(
    workspace: IngestWorkspace, people: People, layout: str
) -> None:
    visits = layout not in WITHOUT_VISITS
    here = {key: value for key, value in people.items() if visits or key[1] == 1}
    WRITERS[layout](workspace.raw, here, layout)
    manifest = workspace.ingest()
    flair = manifest[manifest.modality == "FLAIR"]
    assert manifest.patient_known.all()
    assert manifest.subject.nunique() == 3
    scans = flair.groupby("subject").session.nunique().clip(lower=1)
    assert sorted(scans) == ([1, 1, 2] if visits else [1, 1, 1])
    assert set(manifest.mask_status) == {"segmented"}
    voxels = sorted(int(workspace.load(path)[0].sum()) for path in flair["mask"])
    assert voxels == sorted(int(mask.sum()) for _, mask in here.values())
    assert set(workspace.codes()) <= {"duplicate"}
    assert workspace.accounts_for_every_file()
    if layout == "msd-brain-tumour":
        assert sorted(set(manifest.modality)) == ["FLAIR", "T1", "T1c", "T2"]
        first = flair.iloc[0]
        others = manifest[(manifest.subject == first.subject) & (manifest.modality == "T1")]
        assert (
            workspace.load(first.image)[0].sum()
            > 1.5 * workspace.load(others.image.iloc[0])[0].sum()
        )


def test_each_of_twelve_patients_scanned_twice_lies_in_one_partition(
    workspace: IngestWorkspace,
) -> None:
    for person in range(12):
        for visit in (0, 1):
            stem = f"BraTS-GLI-{person:05d}-10{visit}"
            volume, mask = ellipsoid(2 * person + visit, tumor=person % 2 == 0)
            write(workspace.raw / f"{stem}/{stem}-t2f.nii.gz", volume.astype(np.int16))
            write(workspace.raw / f"{stem}/{stem}-seg.nii.gz", mask)
    manifest = workspace.ingest()
    assert len(manifest) == 24
    tree = {"data": {"batches": ["b"]}, "slices": BASE}
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(tree))
    slices()
    table = pd.read_parquet(workspace.root / "data/slices/slices.parquet")
    names = Pseudonyms(DEMO_KEY)
    everybody = {names.subject(f"BraTS-GLI-{person:05d}") for person in range(12)}
    assert set(table.subject) <= everybody
    assert table.subject.nunique() == 12
    assert (table.groupby("subject").partition_0.nunique() == 1).all()


def recognised(*paths: str) -> dict[str, tuple[str, str | None, str]]:
    """Patient, session and role by path; a code in the patient's place where it is refused."""
    return {
        path: (name.rejection[0] if name.rejection else name.patient, name.session, name.role)
        for path, name in parse_filenames(paths, Sidecars({})).items()
    }


def test_the_rest_of_a_name_in_a_flat_folder_of_one_patient_is_not_a_patient() -> None:
    names = (
        "ROI_regToT1_AffinetoMNI", "Output_3D_File", "T1", "T1_brain", "c1T1", "FLAIR_to_T1",
        "T1_n4", "5_AX_FLAIR", "S0007_T2", "DICOM_AX_FLAIR_20190512101500_5",
        "orig_flair", "r2s_t1",
    )  # fmt: skip
    names_read = recognised(*(f"{name}.nii.gz" for name in names))
    assert {patient for patient, _, _ in names_read.values()} == {"patient-unknown"}


def test_a_single_name_that_parses_among_others_is_not_a_patient() -> None:
    """`mean` is no ID because its neighbours have none; alone with its contrast a name is."""
    mixed = recognised("T1.nii.gz", "Output_3D_File.nii.gz", "mean_dwi.nii.gz")
    assert {patient for patient, _, _ in mixed.values()} == {"patient-unknown"}
    alone = recognised("Doe_flair.nii.gz", "Doe_t1.nii.gz")
    assert {patient for patient, _, _ in alone.values()} == {"Doe"}


def test_flat_ids_are_accepted_where_the_names_hold_more_than_an_id() -> None:
    flat = recognised("P1_flair.nii.gz", "P1_t1.nii.gz", "P1_seg.nii.gz", "P2_flair.nii.gz")
    assert [patient for patient, _, _ in flat.values()] == ["P1", "P1", "P1", "P2"]
    assert flat["P1_seg.nii.gz"][2] == "mask"
    paired = recognised(
        "case_1.nii.gz", "case_1_mask.nii.gz", "case_2.nii.gz", "case_2_mask.nii.gz"
    )
    assert [patient for patient, _, _ in paired.values()] == [
        "case_1",
        "case_1",
        "case_2",
        "case_2",
    ]
    bare = recognised("A.nii.gz", "A_mask.nii.gz", "B.nii.gz")
    assert {patient for patient, _, _ in bare.values()} == {"patient-unknown"}


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("P1/P1_FLAIR_segm", "mask"), ("P1/P1_tumorMask", "mask"), ("P1/P1_GlistrBoost", "mask"),
        ("labelsTr/P1", "mask"), ("P1/flair_seg", "mask"), ("P1/roi", "mask"),
        ("sub-1/sub-1_ses-1_msk", "mask"), ("P1/P1_tumorseg", "mask"), ("P1/wmh", "other-mask"),
        ("P1/P1_brain_t1c", "image"), ("P1/t1_brain", "image"), ("P1/flair_bet", "image"),
        ("P1/P1_brain_mask", "other-mask"), ("P1/P1_brain_segmentation", "other-mask"),
        ("sub-1/anat/sub-1_dseg", "other-mask"),
        ("sub-1/anat/sub-1_label-GM_probseg", "other-mask"),
        ("derivatives/x/sub-1/anat/sub-1_desc-tumor_dseg", "mask"),
        ("derivatives/lesions/sub-1/anat/sub-1_label-lesion_roi", "mask"),
    ],
)  # fmt: skip
def test_masks_are_separated_from_images_and_tumours_from_other_structures(
    path: str, role: str
) -> None:
    assert recognised(f"{path}.nii.gz")[f"{path}.nii.gz"][2] == role


def test_the_better_of_two_outlines_is_used(workspace: IngestWorkspace, people: People) -> None:
    volume, mask = people[1, 1]
    stem = "TCGA-02-0006/TCGA-02-0006_1996.08.23"
    write(workspace.raw / f"{stem}_flair.nii.gz", volume)
    write(workspace.raw / f"{stem}_GlistrBoost.nii.gz", np.ones_like(mask))
    write(workspace.raw / f"{stem}_GlistrBoost_ManuallyCorrected.nii.gz", mask)
    manifest = workspace.ingest()
    assert workspace.load(manifest["mask"][0])[0].sum() == mask.sum()
    assert workspace.codes() == ["skipped"]


def test_a_sidecar_of_dcm2niix_names_the_patient(
    workspace: IngestWorkspace, people: People
) -> None:
    volume, _ = people[1, 1]
    for number, patient in enumerate(("X7", "X7", "X8")):
        stem = f"export_AX_FLAIR_2020010{number + 1}101500_{number}"
        write(workspace.raw / f"{stem}.nii.gz", volume + number)
        (workspace.raw / f"{stem}.json").write_text(f'{{"PatientID": "{patient}"}}')
    manifest = workspace.ingest()
    names = Pseudonyms(DEMO_KEY)
    assert manifest.subject.value_counts().to_dict() == {
        names.subject("X7"): 2, names.subject("X8"): 1,
    }  # fmt: skip


def test_files_of_tools_are_metadata_and_hidden_scans_are_reported(
    workspace: IngestWorkspace, people: People
) -> None:
    volume, _ = people[1, 1]
    write(workspace.raw / "sub-01/sub-01_FLAIR.nii.gz", volume)
    for folder in (".git/annex/objects/x", ".datalad", "__MACOSX", ".ipynb_checkpoints"):
        write(workspace.raw / folder / "sub-09_FLAIR.nii.gz", volume)
    for name in (".DS_Store", "._sub-01_FLAIR.nii.gz", "sub-01/Thumbs.db", ".hidden/notes.xyz"):
        (workspace.raw / name).parent.mkdir(exist_ok=True)
        (workspace.raw / name).write_bytes(b"\0\1\2")
    write(workspace.raw / ".old/sub-02_FLAIR.nii.gz", volume)
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["hidden-file"]
    assert workspace.accounts_for_every_file()
