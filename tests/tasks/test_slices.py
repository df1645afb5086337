"""`slices`: canonical volumes in, position-matched slices split by patient out."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.slices.__main__ import main
from tasks.slices.intensity import z_score
from tasks.slices.matching import auroc, match_negatives
from tasks.slices.split import every, split_patients
from tasks.slices.volume import brain_mask, sample, window
from tasks.stage import StageError

BASE = {
    "size": 64,
    "spacing_mm": 3.0,
    "modalities": ["FLAIR"],
    "folds": [0],
    "val_fraction": 0.25,
    "test_fraction": 0.25,
    "seed": 1,
}


def head(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    """Millimetres from the centre, (3,X,Y,Z)."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def patient(
    seed: int, *, tumor: bool, spacing: tuple[float, float, float] = (2.0, 2.0, 6.0)
) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid brain; tumours lie in its upper half only, so position tells the label."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(180 / s) for s in spacing)
    mm = head(shape, spacing)
    brain = (mm[0] / 65) ** 2 + (mm[1] / 80) ** 2 + (mm[2] / 60) ** 2 < 1
    centre = np.array([rng.uniform(-25, 25), rng.uniform(-30, 30), 30.0])
    radius = np.linalg.norm(mm - centre[:, None, None, None], axis=0)
    mask = (radius < 14) & brain & tumor
    volume = brain * (100.0 + rng.normal(0, 8, shape)) + 60.0 * mask
    return volume.clip(0).astype(np.float32), mask.astype(np.uint8)


def write_cohort(
    root: Path, n: int = 16, *, tumors: bool = True, batch: str = "b", **overrides: Any
) -> pd.DataFrame:
    """n patients of two sites, every other one with a tumour."""
    folder = root / "data/volumes" / batch
    rows = []
    for index in range(n):
        subject, site = f"sub-{batch}{index:02d}", "AB"[index // 2 % 2]
        volume, mask = patient(index, tumor=tumors and index % 2 == 0)
        affine = np.diag([2.0, 2.0, 6.0, 1.0])
        (folder / subject).mkdir(parents=True)
        nib.save(nib.Nifti1Image(volume, affine), folder / subject / "FLAIR.nii.gz")
        nib.save(nib.Nifti1Image(mask, affine), folder / subject / "mask.nii.gz")
        rows.append(
            {
                "subject": subject,
                "session": None,
                "modality": "FLAIR",
                "image": f"{subject}/FLAIR.nii.gz",
                "mask": f"{subject}/mask.nii.gz",
                "mask_status": "segmented" if mask.any() else "empty",
                "shape": list(volume.shape),
                "spacing_mm": [2.0, 2.0, 6.0],
                "orientation": "RAS",
                "source_format": "nifti",
                "source_sha256": "0" * 64,
                "site": site,
                "synthetic": False,
            }
        )
    manifest = pd.DataFrame(rows)
    manifest["session"] = manifest["session"].astype("str").where(manifest["session"].notna())
    manifest.to_parquet(folder / "manifest.parquet", index=False)
    tree = {"data": {"batches": [batch]}, "slices": BASE | overrides}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    return manifest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(root: Path) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, dict[str, Any]]:
    folder = root / "data/slices"
    return (
        np.load(folder / "images.npy"),
        np.load(folder / "masks.npy"),
        pd.read_parquet(folder / "slices.parquet"),
        json.loads((folder / "stats.json").read_text()),
    )


def test_arrays_and_table_agree_and_lie_in_their_ranges(root: Path) -> None:
    write_cohort(root)
    main()
    images, masks, table, stats = outputs(root)
    assert images.shape == (len(table), 1, 64, 64)
    assert images.dtype == np.float16
    assert masks.dtype == np.uint8
    assert float(images.min()) == -1.0
    assert float(images.max()) <= 1.0
    assert set(np.unique(masks)) <= {0, 1}
    assert (table["row"] == np.arange(len(table))).all()
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), table["label"] == 1)
    np.testing.assert_allclose(masks.sum(axis=(1, 2)) * 9.0, table["tumor_area_mm2"])
    assert sum(s["kept"] for s in stats["subjects"].values()) == len(table)


def test_two_runs_write_the_same_bytes(root: Path) -> None:
    write_cohort(root)
    main()
    first = {p.name: p.read_bytes() for p in (root / "data/slices").iterdir()}
    main()
    assert first == {p.name: p.read_bytes() for p in (root / "data/slices").iterdir()}


def test_slice_position_does_not_give_the_label_away(root: Path) -> None:
    write_cohort(root)
    main()
    matching = outputs(root)[3]["matching"]
    assert abs(matching["before"]["position_mm"] - 0.5) > 0.15
    for covariate in ("position_mm", "brain_area_mm2"):
        assert abs(matching["after"][covariate] - 0.5) < 0.1


def test_slices_with_hardly_any_tumour_have_neither_label(root: Path) -> None:
    write_cohort(root)
    main()
    before = outputs(root)[2]["tumor_area_mm2"]
    smallest = float(before[before > 0].min())
    write_cohort(root, batch="c", min_tumor_mm2=smallest + 200)
    main()
    table, stats = outputs(root)[2:]
    assert stats["tumor_slices"]["too_small"] > 0
    assert float(table.loc[table["label"] == 1, "tumor_area_mm2"].min()) >= smallest + 200
    assert float(table.loc[table["label"] == 0, "tumor_area_mm2"].max()) == 0.0


def test_no_patient_crosses_the_split_and_both_sites_are_on_every_side(root: Path) -> None:
    write_cohort(root, 24)
    main()
    table = outputs(root)[2]
    sides = table.groupby("subject")["partition_0"].nunique()
    assert (sides == 1).all()
    assert (table.groupby("partition_0")["site"].nunique() == 2).all()


def test_cross_fitting_tests_every_patient_once(root: Path) -> None:
    write_cohort(root, 18, folds=["a", "b", "c"])
    main()
    table = outputs(root)[2].drop_duplicates("subject")
    tested = (table[["partition_a", "partition_b", "partition_c"]] == "test").sum(axis=1)
    assert (tested == 1).all()


def test_a_patient_seen_in_two_batches_is_one_patient(root: Path) -> None:
    write_cohort(root, 12, batch="b")
    manifest = write_cohort(root, 12, batch="c")
    manifest["subject"] = manifest["subject"].str.replace("sub-c", "sub-b")
    manifest["session"] = pd.Series(["2"] * len(manifest), dtype="str")
    manifest.to_parquet(root / "data/volumes/c/manifest.parquet", index=False)
    tree = yaml.safe_load((root / "params.yaml").read_text()) | {"data": {"batches": ["b", "c"]}}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    main()
    table = outputs(root)[2]
    assert set(table["batch"]) == {"b", "c"}
    assert (table.groupby("subject")["partition_0"].nunique() == 1).all()


def test_synthetic_rows_only_ever_train(root: Path) -> None:
    manifest = write_cohort(root, 16)
    manifest["synthetic"] = manifest["subject"].isin(["sub-b00", "sub-b01", "sub-b02"])
    manifest.to_parquet(root / "data/volumes/b/manifest.parquet", index=False)
    main()
    table = outputs(root)[2]
    chosen = table[table["subject"].isin(["sub-b00", "sub-b01", "sub-b02"])]
    assert len(chosen) > 0
    assert set(chosen["partition_0"]) == {"train"}
    assert "synthetic" not in table.columns


def test_slices_that_name_no_patient_are_said_to_be(root: Path) -> None:
    manifest = write_cohort(root)
    main()
    assert outputs(root)[3]["patients_known"] is True
    manifest["patient_known"] = manifest["subject"] != "sub-b03"
    manifest.to_parquet(root / "data/volumes/b/manifest.parquet", index=False)
    main()
    assert outputs(root)[3]["patients_known"] is False


def test_one_patients_pixels_do_not_change_anothers(root: Path) -> None:
    write_cohort(root)
    main()
    images, _, table, _ = outputs(root)
    victim = table.loc[table["partition_0"] == "test", "subject"].iloc[0]
    path = root / f"data/volumes/b/{victim}/FLAIR.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1] * 3 + 5, image.affine), path)
    main()
    again, _, table_again, _ = outputs(root)
    others = (table["partition_0"] != "test").to_numpy()
    np.testing.assert_array_equal(
        images[others], again[(table_again["partition_0"] != "test").to_numpy()]
    )


def test_a_second_modality_on_another_grid_lands_on_the_first(root: Path) -> None:
    manifest = write_cohort(root, modalities=["FLAIR", "T1"])
    extra = []
    for row in manifest.to_dict("records"):
        folder = root / "data/volumes/b" / row["subject"]
        image = nib.load(folder / "FLAIR.nii.gz")
        coarse = np.asarray(image.dataobj)[::2, ::2]
        affine = image.affine @ np.diag([2, 2, 1, 1])
        nib.save(nib.Nifti1Image(coarse, affine), folder / "T1.nii.gz")
        extra.append(row | {"modality": "T1", "image": f"{row['subject']}/T1.nii.gz"})
    lacking = extra.pop()
    table = pd.concat([manifest, pd.DataFrame(extra)], ignore_index=True)
    table["session"] = table["session"].astype("str").where(table["session"].notna())
    table.to_parquet(root / "data/volumes/b/manifest.parquet", index=False)
    main()
    images, _, _, stats = outputs(root)
    assert images.shape[1] == 2
    first, second = images.astype(np.float32).transpose(1, 0, 2, 3)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.95
    skipped = {(s["subject"], s["code"]) for s in stats["skipped"]}
    assert skipped == {(lacking["subject"], "missing-modality")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tumors": False}, "no patient has a tumour"),
        ({"n": 2}, "2 patients for 1 folds"),
        ({"n": 4, "folds": list("abcdef")}, "4 patients for 6 folds"),
        ({"modalities": ["T2"]}, "no session has all of slices.modalities"),
        ({"spacing_mm": -1}, "slices.spacing_mm"),
        ({"sise": 32}, "did you mean 'size'"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_output(
    root: Path, change: dict[str, Any], words: str
) -> None:
    write_cohort(root, **({"n": 8} | change))
    with pytest.raises(StageError, match=words):
        main()
    assert not list((root / "data").glob("*slices*"))


def test_display_is_radiological() -> None:
    """Patient's right at the image's left, anterior at the top."""
    mm = head((90, 90, 3), (2.0, 2.0, 6.0))
    brain = (mm[0] / 60) ** 2 + (mm[1] / 75) ** 2 < 1
    # RAS: +x is the patient's right, +y anterior.
    spot = np.hypot(mm[0] - 30, mm[1] - 40) < 10
    grid = window(brain, (2.0, 2.0), pixel_mm=3.0, size=64)
    image = sample((brain + 5.0 * spot).astype(np.float32), grid, fill=0.0)[1]
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert row < 32
    assert column < 32


@settings(max_examples=15, deadline=None)
@given(st.floats(0.8, 2.5), st.floats(0.8, 2.5), st.floats(2.0, 4.0))
def test_areas_in_mm2_do_not_depend_on_the_scanners_spacing(
    dx: float, dy: float, pixel_mm: float
) -> None:
    shape = (int(180 / dx), int(180 / dy), 2)
    mm = head(shape, (dx, dy, 5.0))
    disc = np.hypot(mm[0], mm[1]) < 45
    grid = window(disc, (dx, dy), pixel_mm=pixel_mm, size=96)
    area = (sample(disc.astype(np.float32), grid, fill=0.0) >= 0.5)[0].sum() * pixel_mm**2
    assert area == pytest.approx(np.pi * 45**2, rel=0.04)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(0, 500))
def test_normalisation_ignores_gain_and_offset(gain: float, offset: float) -> None:
    volume, _ = patient(3, tumor=True)
    brain = brain_mask(volume)
    options: Any = {"clip_percentiles": (0.5, 99.5), "z_range": (-2.5, 3.5)}
    plain = z_score(volume, brain, **options)
    changed = z_score(volume * np.float32(gain) + np.float32(offset * gain), brain, **options)
    np.testing.assert_allclose(plain, changed, atol=5e-3)


def test_brain_mask_finds_the_brain_and_fills_its_ventricles() -> None:
    volume, _ = patient(5, tumor=False)
    truth = volume > 20
    volume[40:50, 40:50, 10:20] = 0.0
    found = brain_mask(volume)
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.95
    assert found[45, 45, 15]


@settings(max_examples=60, deadline=None)
@given(st.integers(6, 60), st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.integers(0, 99))
def test_a_split_keeps_its_fractions_and_strata(n: int, val: float, test: float, seed: int) -> None:
    patients = pd.DataFrame(
        {
            "subject": [f"s{i}" for i in range(n)],
            "site": ["AB"[i % 2] for i in range(n)],
            "tumor": True,
            "clear": True,
            "synthetic": False,
        }
    )
    sides = split_patients(
        patients, folds=["0"], val_fraction=val, test_fraction=test, train_patients=0, draw=0,
        seed=seed,
    )  # fmt: skip
    names = pd.Series(sides["0"])
    for side, fraction in (("val", val), ("test", test)):
        assert abs((names == side).sum() - fraction * n) <= 1.5
        by_site = names[names == side].index.map(patients.set_index("subject")["site"])
        counts = pd.Series(by_site).value_counts().reindex(["A", "B"], fill_value=0)
        assert abs(counts["A"] - counts["B"]) <= 2


@given(st.integers(2, 200), st.floats(0.01, 0.99))
def test_systematic_sampling_never_takes_nobody_or_everybody(n: int, fraction: float) -> None:
    chosen = every(n, fraction, start=0.5)
    assert 0 < chosen.sum() < n
    assert abs(chosen.sum() - n * fraction) <= 1


def test_matching_is_optimal_on_a_line() -> None:
    """Closed form: of five negatives the two within reach of the two positives are taken."""
    table = pd.DataFrame(
        {
            "position_mm": [0.0, 10.0, 0.4, 9.0, 30.0, -20.0, 50.0],
            "brain_area_mm2": 1.0,
            "label": [1, 1, 0, 0, 0, 0, 0],
        }
    )
    keep = match_negatives(table, ratio=1.0, caliper=0.5, keep_unmatched=False)
    assert keep.tolist() == [True, True, True, True, False, False, False]


def test_a_tumour_slice_without_partner_goes_unless_asked_to_stay() -> None:
    table = pd.DataFrame(
        {"position_mm": [0.0, 40.0, 1.0], "brain_area_mm2": 1.0, "label": [1, 1, 0]}
    )
    dropped = match_negatives(table, ratio=1.0, caliper=0.5, keep_unmatched=False)
    kept = match_negatives(table, ratio=1.0, caliper=0.5, keep_unmatched=True)
    assert dropped.tolist() == [True, False, True]
    assert kept.tolist() == [True, True, True]


def test_auroc_equals_scikit_learns_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    score, label = rng.integers(0, 9, 300).astype(float), rng.integers(0, 2, 300)
    assert auroc(score, label) == pytest.approx(roc_auc_score(label, score), abs=1e-4)
    assert auroc(score, np.ones(300, dtype=int)) is None


def test_real_patients_keep_their_slice_counts(root: Path) -> None:
    """participants.tsv of the LGG collection counts slices before any matching."""
    source = Path(__file__).parents[2].parent / "shared/data/lgg"
    if not source.exists():
        pytest.skip("the LGG collection is not on this machine")
    expected = pd.read_csv(source / "participants.tsv", sep="\t").head(12)
    manifest = write_cohort(root, len(expected), batch="lgg", spacing_mm=3.6)
    manifest["subject"] = expected["participant_id"]
    for column, pattern in (
        ("image", "{0}/anat/{0}_FLAIR.nii.gz"),
        ("mask", "derivatives/masks/{0}/anat/{0}_label-tumor_mask.nii.gz"),
    ):
        manifest[column] = [str(source / pattern.format(s)) for s in manifest["subject"]]
    manifest["mask_status"] = "segmented"
    manifest.to_parquet(root / "data/volumes/lgg/manifest.parquet", index=False)
    main()
    subjects = outputs(root)[3]["subjects"]
    for row in expected.itertuples():
        found = subjects[row.participant_id]
        assert (found["slices"], found["tumor_slices"]) == (row.slices, row.tumor_slices)
