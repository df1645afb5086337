"""Who trains, who validates, who is tested, and who is never looked at."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.slices.__main__ import main
from tasks.stage.errors import InputError
from tests.tasks.slices_fixtures import ask, outputs, rewrite, write_cohort, write_sliced_cohort

FEW = {"train_patients": 6, "training_slices": "in-range"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("folds", "val"), [(2, 0.5), (2, 0.6), (3, 0.67), (4, 0.75)])
def test_folds_that_leave_nobody_to_train_on_are_refused(
    folds: int, val: float, root: Path
) -> None:
    write_cohort(root, folds=list(range(folds)), val_fraction=val)
    with pytest.raises(InputError, match=rf"each of {folds} folds tests 1/{folds}.*val_fraction"):
        main()
    assert not (root / "data/slices").exists()


def test_few_patients_to_train_on_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(root, folds=[0, 1], val_fraction=0.375, test_fraction=0.9)
    main()
    output = capsys.readouterr().out
    assert (
        "slices: fold 0: 2 patients train, 6 validate, 8 test; fewer train than validate: lower"
        " slices.val_fraction" in output
    )


def held_out(root: Path) -> tuple[bytes, bytes, pd.DataFrame]:
    images, masks, table, _ = outputs(root)
    test = (table["partition_0"] == "test").to_numpy()
    rows = table[test].drop(columns="row").reset_index(drop=True)
    return images[test].tobytes(), masks[test].tobytes(), rows


def test_test_slices_are_the_same_bytes_for_every_number_and_draw(root: Path) -> None:
    write_sliced_cohort(root)
    images, masks, rows = held_out(root)
    for changes in ({"draw": 0}, {"draw": 1}, {"train_patients": 10}):
        ask(root, **(FEW | changes))
        main()
        again = held_out(root)
        assert again[:2] == (images, masks)
        pd.testing.assert_frame_equal(again[2], rows)


def test_patients_not_drawn_are_not_even_opened(root: Path) -> None:
    manifest = write_sliced_cohort(root, **FEW)
    first = {p.name: p.read_bytes() for p in (root / "data/slices").iterdir()}
    table, stats = outputs(root)[2:]
    seen = set(table["subject"])
    assert stats["unused_patients"] == {"0": len(manifest) - len(seen)}
    assert "unused" not in set(table["partition_0"])
    for row in manifest[~manifest["subject"].isin(seen)].itertuples():
        (root / "data/volumes/b" / row.image).write_bytes(b"not a volume")
    main()
    assert first == {p.name: p.read_bytes() for p in (root / "data/slices").iterdir()}


def test_cross_fitting_tests_every_patient_once_and_sees_only_whom_it_drew(root: Path) -> None:
    write_cohort(root, 18, folds=["a", "b", "c"], **FEW)
    main()
    table = outputs(root)[2]
    columns = ["partition_a", "partition_b", "partition_c"]
    tested = table.groupby("subject")[columns].agg(lambda side: (side == "test").any())
    assert (tested.sum(axis=1) == 1).all()
    for column in columns:
        taking_part = table[table[column] != "unused"]
        assert (taking_part.groupby("subject")[column].nunique() == 1).all()
        assert taking_part.loc[taking_part[column] != "test", "subject"].nunique() == 6


def test_a_folds_training_slices_hang_on_nobody_it_does_not_train_on(root: Path) -> None:
    """Another patient's tumour moves: with matching across sides, others' negatives would too."""
    manifest = write_cohort(root, 18, folds=["a", "b"])
    main()
    before = outputs(root)[2]
    victim = before.loc[before["partition_a"] == "test", "subject"].iloc[0]
    manifest.loc[manifest["subject"] == victim, "mask_status"] = "empty"
    path = root / f"data/volumes/b/{victim}/mask.nii"
    mask = nib.load(path)
    nib.save(nib.Nifti1Image(np.array(mask.dataobj)[:, :, ::-1], mask.affine), path)
    manifest.loc[manifest["subject"] == victim, "mask_status"] = "segmented"
    rewrite(root, manifest)
    main()
    after = outputs(root)[2]
    key = ["subject", "slice_index"]
    for side in ("train", "val"):
        pd.testing.assert_frame_equal(
            before.loc[before["partition_a"] == side, key].reset_index(drop=True),
            after.loc[after["partition_a"] == side, key].reset_index(drop=True),
        )


def test_an_unlabelled_patient_trains_without_anything_that_was_drawn(root: Path) -> None:
    """Nothing of what was drawn is left, and the other patients' slices are the same."""
    write_sliced_cohort(root, 24, **FEW, unlabelled_patients=5, caliper=3.0)
    images, masks, table, stats = outputs(root)
    hidden = (table["label"] == -1).to_numpy()
    assert table.loc[hidden, "subject"].nunique() == 5
    assert set(table.loc[hidden, "partition_0"]) == {"train"}
    assert not table.loc[hidden, "mask_known"].any() and not masks[hidden].any()
    assert (table.loc[hidden, "tumor_area_mm2"] == 0).all()
    assert stats["unlabelled_patients"] == {"0": 5}
    ask(root, unlabelled_patients=0)
    main()
    others = outputs(root)[2]
    columns = ["subject", "slice_index", "label", "partition_0"]
    pd.testing.assert_frame_equal(
        table.loc[~hidden, columns].reset_index(drop=True), others[columns]
    )
    rows = table.loc[hidden, ["subject", "slice_index"]].drop_duplicates()
    assert len(rows) == hidden.sum() and len(images) == len(table)


def test_the_slices_of_an_unlabelled_patient_do_not_depend_on_the_outline(root: Path) -> None:
    write_sliced_cohort(root, 24, **FEW, unlabelled_patients=5, caliper=3.0)
    table = outputs(root)[2]
    unlabelled = sorted(set(table.loc[table["label"] == -1, "subject"]))
    (path, *_) = [
        path
        for subject in unlabelled
        for path in Path("data/volumes").glob(f"*/{subject}/mask.nii")
        if np.asarray(nib.load(path).dataobj).any()
    ]
    image = nib.load(path)
    moved = np.roll(np.asarray(image.dataobj), -2, axis=2)
    nib.save(nib.Nifti1Image(moved, image.affine), path)
    main()
    pd.testing.assert_frame_equal(outputs(root)[2], table)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"train_patients": 0}, "which leaves none"), ({"folds": ["a", "b"]}, "keep one fold")],
)
def test_hidden_labels_need_left_over_patients_and_one_fold(
    root: Path, changes: dict[str, Any], said: str
) -> None:
    write_cohort(root, **(FEW | {"unlabelled_patients": 5} | changes))
    with pytest.raises(InputError, match=said):
        main()


def list_batches(root: Path, batches: list[str]) -> None:
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["data"] = {"batches": batches}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def test_another_hospitals_patients_test(root: Path) -> None:
    write_cohort(root, 12)
    write_cohort(root, 6, batch="c")
    ask(root, test_batches=["c"])
    list_batches(root, ["b", "c"])
    main()
    table = outputs(root)[2]
    assert set(table.loc[table["partition_0"] == "test", "batch"]) == {"c"}
    assert set(table.loc[table["partition_0"] != "test", "batch"]) == {"b"}


def test_a_patient_of_a_test_batch_and_another_one_stops_the_run(root: Path) -> None:
    """Also where two hospitals gave two persons one ID: one volume of them would be left out."""
    for batch in ("b", "c"):
        manifest = write_cohort(root, 6, batch=batch)
        rewrite(root, manifest.assign(subject=[f"sub-{i}" for i in range(len(manifest))]), batch)
    ask(root, test_batches=["c"])
    list_batches(root, ["b", "c"])
    with pytest.raises(InputError, match="and in another one"):
        main()


def test_a_test_batch_that_is_not_listed_is_one_line(root: Path) -> None:
    write_cohort(root, 6)
    ask(root, test_batches=["elsewhere"])
    with pytest.raises(InputError, match="elsewhere"):
        main()
