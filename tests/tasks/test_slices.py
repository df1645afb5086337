"""`slices`: canonical volumes in, position-matched slices split by patient out."""

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
from tasks.slices.position_matching import (
    covariate_auroc,
    keep_in_tumor_range,
    match_in_blocks,
    match_negatives,
    tumor_range,
)
from tasks.stage.errors import InputError
from tasks.volumes.resampling import centred_grid, resample_slices
from tests.tasks.slices_fixtures import head, outputs, write_cohort, write_sliced_cohort


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_arrays_and_table_agree_and_lie_in_their_ranges(root: Path) -> None:
    write_sliced_cohort(root)
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
    write_sliced_cohort(root)
    first = {p.name: p.read_bytes() for p in (root / "data/slices").iterdir()}
    main()
    assert first == {p.name: p.read_bytes() for p in (root / "data/slices").iterdir()}


def test_slice_position_does_not_give_the_label_away(root: Path) -> None:
    write_sliced_cohort(root)
    matching = outputs(root)[3]["matching"]
    assert abs(matching["before"]["position_mm"] - 0.5) > 0.15
    for covariate in ("position_mm", "brain_area_mm2"):
        assert abs(matching["after"][covariate] - 0.5) < 0.1


def test_slices_with_hardly_any_tumour_have_neither_label(root: Path) -> None:
    write_sliced_cohort(root)
    before = outputs(root)[2]["tumor_area_mm2"]
    smallest = float(before[before > 0].min())
    write_cohort(root, batch="c", min_tumor_mm2=smallest + 200)
    main()
    table, stats = outputs(root)[2:]
    assert stats["tumor_slices"]["too_small"] > 0
    assert float(table.loc[table["label"] == 1, "tumor_area_mm2"].min()) >= smallest + 200
    assert float(table.loc[table["label"] == 0, "tumor_area_mm2"].max()) == 0.0


def test_no_patient_crosses_the_split_and_both_sites_are_on_every_side(root: Path) -> None:
    write_sliced_cohort(root)
    table = outputs(root)[2]
    sides = table.groupby("subject")["partition_0"].nunique()
    assert (sides == 1).all()
    assert (table.groupby("partition_0")["site"].nunique() == 2).all()


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
    assert set(table.loc[table["marked_synthetic"], "subject"]) == set(chosen["subject"])


def test_slices_that_name_no_patient_are_said_to_be(root: Path) -> None:
    manifest = write_sliced_cohort(root)
    assert outputs(root)[3]["patients_known"] is True
    manifest["patient_known"] = manifest["subject"] != "sub-b03"
    manifest.to_parquet(root / "data/volumes/b/manifest.parquet", index=False)
    main()
    assert outputs(root)[3]["patients_known"] is False


def test_one_patients_pixels_do_not_change_anothers(root: Path) -> None:
    write_sliced_cohort(root)
    images, _, table, _ = outputs(root)
    victim = table.loc[table["partition_0"] == "test", "subject"].iloc[0]
    path = root / f"data/volumes/b/{victim}/FLAIR.nii"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1] * 3 + 5, image.affine), path)
    main()
    again, _, table_again, _ = outputs(root)
    others = (table["partition_0"] != "test").to_numpy()
    np.testing.assert_array_equal(
        images[others], again[(table_again["partition_0"] != "test").to_numpy()]
    )


@pytest.mark.parametrize(
    ("change", "message"),
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
    root: Path, change: dict[str, Any], message: str
) -> None:
    write_cohort(root, **({"n": 8} | change))
    with pytest.raises(InputError, match=message):
        main()
    assert not list((root / "data").glob("*slices*"))


def test_display_is_radiological() -> None:
    """Patient's right at the image's left, anterior at the top."""
    mm = head((90, 90, 3), (2.0, 2.0, 6.0))
    brain = (mm[0] / 60) ** 2 + (mm[1] / 75) ** 2 < 1
    # RAS: +x is the patient's right, +y anterior.
    spot = np.hypot(mm[0] - 30, mm[1] - 40) < 10
    grid = centred_grid(brain, (2.0, 2.0), pixel_mm=3.0, size=64)
    image = resample_slices((brain + 5.0 * spot).astype(np.float32), grid, fill=0.0)[1]
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
    grid = centred_grid(disc, (dx, dy), pixel_mm=pixel_mm, size=96)
    area = (resample_slices(disc.astype(np.float32), grid, fill=0.0) >= 0.5)[0].sum() * pixel_mm**2
    assert area == pytest.approx(np.pi * 45**2, rel=0.04)


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


def test_many_patients_are_matched_in_blocks_of_whole_patients() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "subject": np.repeat([f"s{n:02d}" for n in range(30)], 20),
            "position_mm": rng.normal(0, 20, 600),
            "brain_area_mm2": rng.normal(9000, 900, 600),
            "label": rng.random(600) < 0.3,
        }
    ).astype({"label": int})
    options: Any = {"ratio": 1.0, "caliper": 0.5, "keep_unmatched": False}
    at_once = match_negatives(table, **options)
    np.testing.assert_array_equal(match_in_blocks(table, **options), at_once)
    keep = match_in_blocks(table, max_tumor_slices=40, **options)
    kept = table[keep]
    assert (kept["label"] == 1).sum() == (kept["label"] == 0).sum()
    assert keep.sum() > 0.9 * at_once.sum()
    alone = table["subject"] < "s06"  # a block hangs on its own patients only
    first = match_in_blocks(table[alone], max_tumor_slices=40, **options)
    assert (first == keep[alone])[: 4 * 20].all()


def test_a_tumour_slice_without_partner_goes_unless_asked_to_stay() -> None:
    table = pd.DataFrame(
        {"position_mm": [0.0, 40.0, 1.0], "brain_area_mm2": 1.0, "label": [1, 1, 0]}
    )
    dropped = match_negatives(table, ratio=1.0, caliper=0.5, keep_unmatched=False)
    kept = match_negatives(table, ratio=1.0, caliper=0.5, keep_unmatched=True)
    assert dropped.tolist() == [True, False, True]
    assert kept.tolist() == [True, True, True]


def test_few_patients_keep_every_tumour_slice_and_what_lies_in_their_range() -> None:
    """Closed form: the range is 0 to 10, its standard deviation 5, the margin half of that."""
    table = pd.DataFrame(
        {
            "position_mm": [0.0, 10.0, -2.4, -2.6, 5.0, 12.4, 12.6, 5.0],
            "brain_area_mm2": [1.0] * 7 + [2.0],
            "label": [1, 1, 0, 0, 0, 0, 0, 0],
        }
    )
    keep = keep_in_tumor_range(table, tumor_range(table[table["label"] == 1]), caliper=0.5)
    assert keep.tolist() == [True, True, True, False, True, True, False, False]


def test_auroc_equals_scikit_learns_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    score, label = rng.integers(0, 9, 300).astype(float), rng.integers(0, 2, 300)
    assert covariate_auroc(score, label) == pytest.approx(roc_auc_score(label, score), abs=1e-4)
    assert covariate_auroc(score, np.ones(300, dtype=int)) is None
