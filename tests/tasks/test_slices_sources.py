"""What `slices` is given: pictures with class folders, several modalities, stripped heads."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from nibabel.affines import apply_affine
from scipy import ndimage

from tasks import params
from tasks.downstream.__main__ import read_volumes_of_test_patients
from tasks.params.slices import Slices
from tasks.slices.__main__ import main
from tasks.stage.errors import InputError
from tasks.volumes.resampling import fill_holes_by_slice, largest_body_mask
from tests.tasks.slices_fixtures import (
    ask,
    head,
    outputs,
    patient,
    rewrite,
    write_cohort,
    write_sliced_cohort,
)

TWO = {"n": 8, "modalities": ["FLAIR", "T1"]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_pictures(root: Path, n: int = 24, *, patients: int | None = None) -> pd.DataFrame:
    """n pictures as `ingest` leaves a collection in class folders: nobody outlined the tumours.

    They are of sizes 80 to 200 pixels. Every third shows a tumour; without `patients` each
    picture is its own patient.
    """
    manifest = write_cohort(root, 3, scale="body", size=32)
    rng = np.random.default_rng(2)
    rows = []
    for number in range(n):
        label = int(number % 3 == 0)
        side = int(rng.integers(80, 200))
        mm = head((side, side, 1), (180 / side, 180 / side, 1.0))
        body = (mm[0] / rng.uniform(60, 65)) ** 2 + (mm[1] / rng.uniform(76, 80)) ** 2 < 1
        spot = np.hypot(mm[0] - 20, mm[1] - 20) < 12
        volume = body * (90 + 60 * (spot & bool(label)) + rng.normal(0, 5, body.shape))
        subject = f"sub-{number % patients if patients else number:03d}"
        name = f"{subject}_run-{number:02d}_FLAIR.nii"
        nib.save(
            nib.Nifti1Image(volume.clip(0).astype(np.float32), np.eye(4)),
            root / "data/volumes/b" / name,
        )
        rows.append(
            manifest.iloc[0].to_dict()
            | {
                "subject": subject, "image": name, "mask": None, "mask_status": "missing",
                "shape": [side, side, 1], "spacing_mm": [1.0, 1.0, 1.0],
                "source_format": "image2d", "label": label, "patient_known": bool(patients),
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table["mask"] = table["mask"].astype("str").where(table["mask"].notna())
    rewrite(root, table)
    return table


def test_class_folders_give_the_label_where_nobody_drew_a_mask(root: Path) -> None:
    manifest = write_pictures(root, 40)
    main()
    images, masks, table, stats = outputs(root)
    label_of_patient = manifest.set_index("subject")["label"]
    assert (table["label"].to_numpy() == label_of_patient[table["subject"]].to_numpy()).all()
    assert set(table["label"]) == {0, 1}
    assert not table["mask_known"].any()
    assert not masks.any()
    assert stats["masks_known"] is False
    assert stats["patients_known"] is False
    assert stats["tumor_slices"]["all"] == int(manifest["label"].sum())
    for side in ("train", "val", "test"):
        assert set(table.loc[table["partition_0"] == side, "label"]) == {0, 1}
    assert images.shape[1:] == (1, 32, 32)


def test_each_picture_of_a_patient_is_cut_and_numbered(root: Path) -> None:
    write_pictures(root, 36, patients=12)
    ask(root, caliper=1e6)
    main()
    table, stats = outputs(root)[2:]
    assert sum(of["slices"] for of in stats["subjects"].values()) == 36
    assert not table.duplicated(["subject", "slice_index"]).any()
    assert table["slice_index"].max() == 2
    assert (table.groupby("subject")["partition_0"].nunique() == 1).all()


def test_pictures_of_any_resolution_fill_the_same_window(root: Path) -> None:
    write_pictures(root)
    ask(root, caliper=1e6)
    main()
    images, _, table, stats = outputs(root)
    assert stats["cut_off"] == 0
    for image in images[:, 0].astype(np.float32):
        rows = np.flatnonzero((image > -0.8).any(axis=1))
        assert len(rows) == pytest.approx(0.9 * 32, abs=2)
    assert table["brain_area_mm2"].std() / table["brain_area_mm2"].mean() < 0.1


def test_pictures_at_nominal_millimetres_that_do_not_fit_are_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(root)
    ask(root, scale="mm", spacing_mm=2.0)
    main()
    assert outputs(root)[3]["cut_off"] > 12
    assert "set slices.scale to body where no millimetres are known" in capsys.readouterr().out


def test_a_mask_outweighs_its_class_folder(root: Path) -> None:
    """A drawn mask says which slices show the tumour, a folder only that some do."""
    manifest = write_sliced_cohort(root)
    labels = outputs(root)[2]["label"]
    manifest["label"] = pd.array([1] * len(manifest), dtype="Int64")
    rewrite(root, manifest)
    main()
    pd.testing.assert_series_equal(outputs(root)[2]["label"], labels)


def add_modality(
    root: Path, manifest: pd.DataFrame, turn: np.ndarray, batch: str = "b"
) -> pd.DataFrame:
    """A T1 of every patient, sampled on a turned, coarser grid of its own."""
    extra = []
    for row in manifest.to_dict("records"):
        folder = root / "data/volumes" / batch / row["subject"]
        image = nib.load(folder / "FLAIR.nii")
        affine = turn @ image.affine @ np.diag([1.25, 1.25, 1, 1])
        shape = (60, 60, 30)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        there = apply_affine(np.linalg.inv(image.affine) @ affine, grid)
        coarse = ndimage.map_coordinates(
            np.array(image.dataobj), there.transpose(3, 0, 1, 2), order=1
        )
        nib.save(nib.Nifti1Image(coarse, affine), folder / "T1.nii")
        extra.append(row | {"modality": "T1", "image": f"{row['subject']}/T1.nii"})
    return pd.DataFrame(extra)


def turned(degrees: float, *, shift_mm: float = 0.0) -> np.ndarray:
    """A turn about the patient's long axis, and a shift along it."""
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[2, 3] = shift_mm
    return affine


def test_a_modality_on_another_oblique_grid_lands_on_the_first(root: Path) -> None:
    manifest = write_cohort(root, **TWO)
    extra = add_modality(root, manifest, turned(25))
    lacking = extra["subject"].iloc[-1]
    rewrite(root, pd.concat([manifest, extra.iloc[:-1]], ignore_index=True))
    main()
    images, masks, _, stats = outputs(root)
    assert images.shape[1] == 2
    first, second = images.astype(np.float32).transpose(1, 0, 2, 3)
    # 25 degrees off, the T1's tumours would lie a radius away from the masks.
    around = (first > -1) & (masks == 0) & masks.any(axis=(1, 2), keepdims=True)
    seen = [one[masks > 0].mean() - one[around].mean() for one in (first, second)]
    assert seen[1] == pytest.approx(seen[0], rel=0.15)
    assert [(s["subject"], s["code"], s["modality"]) for s in stats["skipped"]] == [
        (lacking, "missing-modality", "T1")
    ]


def test_channels_stand_in_the_order_asked_for(root: Path) -> None:
    manifest = write_cohort(root, **TWO)
    extra = add_modality(root, manifest, np.eye(4))
    rewrite(root, pd.concat([extra, manifest], ignore_index=True))
    main()
    write_sliced_cohort(root / "flair", 8)
    np.testing.assert_array_equal(outputs(root)[0][:, 0], outputs(root / "flair")[0][:, 0])


def test_an_empty_mask_beside_a_tumour_outlined_in_another_modality_hides_no_tumour(
    root: Path,
) -> None:
    manifest = write_cohort(root, **TWO)
    drawn = add_modality(root, manifest, np.eye(4))
    rewrite(root, pd.concat([manifest, drawn], ignore_index=True))
    main()
    _, masks, table, _ = outputs(root)
    for row in manifest.to_dict("records"):
        mask = nib.load(root / "data/volumes/b" / row["subject"] / "mask.nii")
        name = f"{row['subject']}/empty.nii"
        nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine),
                 root / "data/volumes/b" / name)  # fmt: skip
    empty = manifest.assign(mask=manifest["subject"] + "/empty.nii", mask_status="empty")
    rewrite(root, pd.concat([empty, drawn], ignore_index=True))
    main()
    np.testing.assert_array_equal(outputs(root)[1], masks)
    assert outputs(root)[2]["label"].tolist() == table["label"].tolist()


def test_modalities_in_two_batches_are_one_session_for_slices_and_for_whole_volumes(
    root: Path,
) -> None:
    """FLAIR came in batch a, T1 in batch b."""
    manifest = write_cohort(root, batch="a", **TWO)
    t1 = add_modality(root, manifest, np.eye(4), batch="a")
    for image in t1["image"]:
        place = root / "data/volumes/b" / image
        place.parent.mkdir(parents=True)
        (root / "data/volumes/a" / image).rename(place)
    t1["mask"], t1["mask_status"] = pd.Series(None, t1.index, dtype="str"), "missing"
    rewrite(root, t1)
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["data"] = {"batches": ["a", "b"]}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    main()
    images, _, table, stats = outputs(root)
    assert images.shape[1] == 2 and set(table["batch"]) == {"a"}
    assert stats["batches"] == ["a", "b"]
    test = table[table["partition_0"] == "test"]
    volumes = read_volumes_of_test_patients(test, params.read_section(Slices), stats)
    assert {one.subject for one in volumes} == set(test["subject"])
    assert all(one.images.shape[1] == 2 for one in volumes)
    assert len(read_volumes_of_test_patients(test, params.read_section(Slices), {})) == len(
        volumes
    ), "as older slices are read"


def test_modalities_of_different_places_are_left_out_with_a_code(root: Path) -> None:
    manifest = write_cohort(root, **TWO)
    here = add_modality(root, manifest.iloc[:-1], np.eye(4))
    elsewhere = add_modality(root, manifest.iloc[-1:], turned(0, shift_mm=120))
    rewrite(root, pd.concat([manifest, here, elsewhere], ignore_index=True))
    main()
    skipped = [(s["subject"], s["code"]) for s in outputs(root)[3]["skipped"]]
    assert skipped == [(manifest["subject"].iloc[-1], "no-overlap")]


def test_of_two_volumes_of_a_modality_the_segmented_one_is_cut(root: Path) -> None:
    manifest = write_sliced_cohort(root)
    images = outputs(root)[0]
    again = manifest.iloc[[0]].assign(mask=None, mask_status="missing", image="sub-b00/AAA.nii")
    volume = nib.load(root / "data/volumes/b/sub-b00/FLAIR.nii")
    nib.save(
        nib.Nifti1Image(np.array(volume.dataobj)[::-1], volume.affine),
        root / "data/volumes/b/sub-b00/AAA.nii",
    )
    table = pd.concat([manifest, again], ignore_index=True)
    table["mask"] = table["mask"].astype("str").where(table["mask"].notna())
    rewrite(root, table)
    main()
    np.testing.assert_array_equal(outputs(root)[0], images)
    assert [s["code"] for s in outputs(root)[3]["skipped"]] == ["repeated-modality"]


def test_a_volume_without_a_body_is_left_out_with_a_code(root: Path) -> None:
    manifest = write_cohort(root)
    volume = nib.load(root / "data/volumes/b/sub-b03/FLAIR.nii")
    empty = nib.Nifti1Image(np.zeros(volume.shape, np.float32), volume.affine)
    nib.save(empty, root / "data/volumes/b/sub-b03/FLAIR.nii")
    main()
    assert outputs(root)[3]["skipped"] == [
        {"subject": manifest["subject"].iloc[3], "session": "", "code": "no-brain"}
    ]


def test_nothing_that_can_be_cut_is_one_line(root: Path) -> None:
    manifest = write_cohort(root, 8)
    for image in manifest["image"]:
        path = root / "data/volumes/b" / image
        volume = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(volume.shape, np.float32), volume.affine), path)
    with pytest.raises(InputError, match=r"none of 8 sessions could be cut \(no-brain\)"):
        main()


def stripped() -> tuple[np.ndarray, np.ndarray]:
    """A brain of two tissues with dark fluid around and inside it, and what it fills."""
    mm = head((72, 72, 30), (2.5, 2.5, 6.0))
    radius = np.sqrt((mm[0] / 65) ** 2 + (mm[1] / 80) ** 2 + (mm[2] / 80) ** 2)
    brain = radius < 1
    tissue = np.where(radius < 0.7, 80.0, 110.0)
    fluid = (radius > 0.95) | (np.hypot(mm[0] / 10, mm[1] / 20) < 1)
    noise = np.random.default_rng(1).normal(0, 4, brain.shape)
    return np.where(brain, np.where(fluid, 12.0, tissue) + noise, 0).astype(np.float32), brain


def centred(volume: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """z-scores inside the brain, 0 outside, as some archives publish them."""
    inside = volume[brain]
    return np.where(brain, (volume - inside.mean()) / inside.std(), 0).astype(np.float32)


@pytest.mark.parametrize(
    "published", ["grey values", "z-scores", "with a bright tumour", "tight", "on a grey floor"]
)
def test_of_a_stripped_head_the_brain_is_found(published: str) -> None:
    volume, brain = stripped()
    if published == "z-scores":
        volume = centred(volume, brain)
    elif published == "with a bright tumour":
        volume[30:40, 40:50, 12:17] *= 5
    elif published == "on a grey floor":  # a constant margin, and darker specks in it
        volume = volume + np.float32(2)
        volume[3:9, 3:60] = 0
    elif published == "tight":
        box = ndimage.find_objects(brain.astype(int))[0]
        volume, brain = volume[box], brain[box]
    brain_mask = largest_body_mask(volume)
    assert 2 * (brain_mask & brain).sum() / (brain_mask.sum() + brain.sum()) > 0.93
    assert brain_mask[tuple(n // 2 for n in brain_mask.shape)]


def test_brain_mask_finds_the_brain_and_fills_its_ventricles() -> None:
    volume, _ = patient(5, tumor=False)
    truth = volume > 20
    volume[27:33, 27:33, 10:20] = 0.0
    brain_mask = largest_body_mask(volume)
    dice = 2 * (brain_mask & truth).sum() / (brain_mask.sum() + truth.sum())
    assert dice > 0.95
    assert brain_mask[30, 30, 15]


@settings(max_examples=40, deadline=None)
@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7)))
def test_holes_are_filled_as_scipy_fills_them_slice_by_slice(body: np.ndarray) -> None:
    by_slice = [ndimage.binary_fill_holes(body[:, :, z]) for z in range(body.shape[2])]
    np.testing.assert_array_equal(fill_holes_by_slice(body), np.stack(by_slice, axis=2))
