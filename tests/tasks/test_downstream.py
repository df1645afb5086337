"""The stage `downstream`: who is tested, what stops it, what it leaves behind."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from torch import nn

from tasks.downstream import __main__ as stage_main
from tasks.downstream import classify, segment
from tasks.downstream.__main__ import main
from tasks.schemas.predictions import (
    ClassifyPredictions,
    PatientScores,
    RunOutcomes,
    SegmentPredictions,
)
from tasks.stage.errors import InputError
from tests.tasks import downstream_fixtures
from tests.tasks.downstream_fixtures import table
from tests.tasks.slices_fixtures import hide_patient

PATIENTS = 12
write = partial(downstream_fixtures.write, patients=PATIENTS)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, seeds=(0,))
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_every_test_slice_is_predicted_once_by_every_seed(root, task):
    write(root, seeds=(0, 1))
    main(task, "real+classical+synthetic")
    schema = {"classify": ClassifyPredictions, "segment": SegmentPredictions}[task]
    predictions = schema.validate(table(task, "real+classical+synthetic", "predictions"))
    slices = pd.read_parquet("data/slices/slices.parquet")
    test = slices[slices["partition_0"] == "test"]
    for _, rows in predictions.groupby("seed"):
        assert rows["row"].tolist() == test["row"].tolist()
        assert rows["label"].tolist() == test["label"].tolist()
    patients = PatientScores.validate(table(task, "real+classical+synthetic", "patients"))
    assert set(patients["subject"]) == set(test["subject"])
    history = pd.read_csv(f"data/downstream/{task}-real+classical+synthetic/history.csv")
    assert history["step"].tolist() == [4, 8, 4, 8]


def test_the_same_bytes_come_out_twice(root):
    main("segment", "real+classical+synthetic")
    first = files(root / "data/downstream/segment-real+classical+synthetic")
    main("segment", "real+classical+synthetic")
    assert files(root / "data/downstream/segment-real+classical+synthetic") == first


def test_held_out_patients_do_not_touch_training(root):
    """Weights and threshold come from training and validation: new test pictures, same history."""
    main("classify", "real")
    before = pd.read_csv("data/downstream/classify-real/history.csv")
    threshold = table("classify", "real", "predictions")["threshold"].unique()
    images = np.load("data/slices/images.npy")
    test = (pd.read_parquet("data/slices/slices.parquet")["partition_0"] == "test").to_numpy()
    images[test] = images[test][:, :, ::-1] * np.float16(0.5)
    np.save("data/slices/images.npy", images)
    main("classify", "real")
    assert before.equals(pd.read_csv("data/downstream/classify-real/history.csv"))
    assert (table("classify", "real", "predictions")["threshold"].unique() == threshold).all()


def test_a_planted_patient_stops_the_run_with_its_id(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices.loc[slices.index[slices["subject"] == "sub-002"][0], "partition_0"] = "train"
    slices.to_parquet("data/slices/slices.parquet")
    with pytest.raises(InputError, match="patient sub-002 is in more than one"):
        main("classify", "real")
    assert not Path("data/downstream/classify-real").exists()


def test_a_patient_under_two_names_stops_the_run_with_both(root):
    images = np.load("data/slices/images.npy")
    images[-1] = images[0]  # the last patient tests, the first one trains
    np.save("data/slices/images.npy", images)
    with pytest.raises(InputError, match="sub-000 and sub-011 are on different sides"):
        main("segment", "real")


def test_an_added_slice_of_a_held_out_patient_stops_the_run(root):
    images = np.load("data/slices/images.npy")
    pool = np.load("data/pool/synthetic/images.npy")
    pool[3] = images[-1]
    np.save("data/pool/synthetic/images.npy", pool)
    with pytest.raises(InputError, match="the added slices hold one of patient sub-011"):
        main("segment", "synthetic")


@pytest.mark.parametrize("status", ["too few", "not applicable"])
def test_an_arm_without_added_slices_leaves_empty_tables_and_a_word(root, status):
    downstream_fixtures.write_pool(root, "synthetic", 0, status=status)
    main("classify", "synthetic")
    assert table("classify", "synthetic", "predictions").empty
    assert PatientScores.validate(table("classify", "synthetic", "patients")).empty
    written = json.loads(Path("data/downstream/classify-synthetic/status.json").read_text())
    assert written == {"0": status}


def test_spare_seeds_are_trained_and_a_network_that_never_learns_is_reported(root, monkeypatch):
    write(root, seeds=(0,), reruns=2)
    monkeypatch.setattr(segment, "beats_chance", lambda metric: False)
    main("segment", "real")
    ended = RunOutcomes.validate(table("segment", "real", "runs"))
    assert ended["seed"].tolist() == [0, 1, 2] and not ended["learnt"].any()
    assert set(table("segment", "real", "predictions")["seed"]) == {0, 1, 2}


def die_in_the_second_run(monkeypatch):
    """Let the second run die as by a signal; return the list that the begun runs' seeds go to."""
    trained, learn = [], stage_main.train_and_test

    def dying(*given, seed, **options):
        trained.append(seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return learn(*given, seed=seed, **options)

    monkeypatch.setattr(stage_main, "train_and_test", dying)
    with pytest.raises(KeyboardInterrupt):
        main("segment", "real+synthetic")
    return trained


def test_a_killed_stage_takes_up_behind_its_finished_runs_and_ends_in_the_same_bytes(
    root, monkeypatch
):
    write(root, seeds=(0, 1))
    main("segment", "real+synthetic")
    folder = root / "data/downstream/segment-real+synthetic"
    whole = files(folder)
    shutil.rmtree(folder)
    trained = die_in_the_second_run(monkeypatch)
    assert not folder.exists()
    main("segment", "real+synthetic")
    assert trained == [0, 1, 1]
    assert files(folder) == whole
    assert not list(Path(".checkpoints").iterdir())


def test_a_finished_run_on_other_whole_volumes_is_run_again(root, monkeypatch):
    write(root, seeds=(0, 1))
    trained = die_in_the_second_run(monkeypatch)
    downstream_fixtures.write_volumes(root, patients=PATIENTS, seed=3)
    main("segment", "real+synthetic")
    assert trained == [0, 1, 0, 1]


def test_slices_without_an_outline_teach_no_outlines(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices["mask_known"] = slices["subject"] != "sub-002"
    slices.to_parquet("data/slices/slices.parquet")
    main("segment", "real")
    main("classify", "real")
    assert "sub-002" not in set(table("segment", "real", "predictions")["subject"])
    assert "sub-002" in set(table("classify", "real", "predictions")["subject"])


def test_a_split_by_slice_has_its_patients_on_several_sides(root):
    downstream_fixtures.write_pool(root, "real+slice-split")
    main("segment", "real+slice-split")
    predictions = table("segment", "real+slice-split", "predictions")
    slices = pd.read_parquet("data/slices/slices.parquet")
    held_out = slices[slices["partition_0"] == "test"]
    assert set(predictions["subject"]) > set(held_out["subject"])
    assert (predictions.groupby("seed").size() == len(held_out)).all()
    assert "dice_volume" not in set(table("segment", "real+slice-split", "patients")["metric"])


def test_slices_that_a_fold_does_not_use_are_nowhere_and_no_leak(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices.loc[slices.index[slices["subject"] == "sub-002"][:2], "partition_0"] = "unused"
    slices.to_parquet("data/slices/slices.parquet")
    main("classify", "real")
    predictions = table("classify", "real", "predictions")
    assert (predictions["subject"] == "sub-002").sum() == 6 - 2


def test_unlabelled_slices_are_left_out(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices.loc[slices["subject"] == "sub-002", "label"] = -1
    slices.to_parquet("data/slices/slices.parquet")
    main("classify", "real")
    assert "sub-002" not in set(table("classify", "real", "predictions")["subject"])


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_nothing_is_learnt_from_a_training_patient_whose_labels_are_hidden(root, task):
    hidden = hide_patient(root, "sub-000")
    main(task, "real")
    folder = root / f"data/downstream/{task}-real"
    whole = files(folder)
    images = np.load("data/slices/images.npy")
    images[hidden] = -images[hidden]
    np.save("data/slices/images.npy", images)
    main(task, "real")
    assert files(folder) == whole


def test_validation_without_tumour_is_one_clear_line(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices.loc[slices["partition_0"] == "val", "label"] = 0
    slices.to_parquet("data/slices/slices.parquet")
    with pytest.raises(InputError, match="the val patients need slices with and without tumour"):
        main("classify", "real")


@pytest.mark.parametrize("side", ["Test", None])
def test_a_side_of_the_split_that_is_none_is_refused(root, side):
    """Its patients would vanish in silence."""
    path = root / "data/slices/slices.parquet"
    slices = pd.read_parquet(path)
    slices.loc[slices["partition_0"] == "test", "partition_0"] = side
    slices.to_parquet(path)
    with pytest.raises(
        InputError, match=r"partition_0 of \d+ slices is (None|nan|'Test'); expected"
    ):
        main("classify", "real")


def test_an_unknown_arm_is_one_line(root):
    with pytest.raises(InputError, match="unknown part 'synth'"):
        main("segment", "real+synth")


def retrain(root, sides):
    """Let the patients of a fold stand on other sides: the first of each side stay, as asked."""
    path = Path("data/slices/slices.parquet")
    table = pd.read_parquet(path)
    for side, count in sides.items():
        subjects = sorted(table.loc[table["partition_0"] == side, "subject"].unique())
        table.loc[table["subject"].isin(subjects[count:]), "partition_0"] = "unused"
    table.to_parquet(path)


@pytest.mark.parametrize("side", ["train", "val"])
@pytest.mark.parametrize("arm", ["random-labels", "random-labels+slice-split"])
def test_one_patient_cannot_show_two_random_labels(root, side, arm, capsys):
    retrain(root, {side: 1})
    downstream_fixtures.write_pool(root, arm)
    main("classify", arm)
    folder = Path(f"data/downstream/classify-{arm}")
    assert json.loads((folder / "status.json").read_text()) == {"0": "not run"}
    assert f"1 {side} patient shows one random label only" in capsys.readouterr().out
    assert len(pd.read_parquet(folder / "predictions.parquet")) == 0


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_few_patients_train_and_validate(root, count, task):
    retrain(root, {"train": count, "val": 1})
    for arm in ("real", "real+classical+synthetic"):
        main(task, arm)
        assert len(table(task, arm, "predictions")) > 0


def test_tumours_that_nobody_outlined_are_not_added_for_outlines(root, monkeypatch):
    path = Path("data/pool/real+synthetic/samples.parquet")
    samples = pd.read_parquet(path)
    samples.assign(mask_known=np.arange(len(samples)) >= 10).to_parquet(path)
    seen = {}
    real_learn = stage_main.train_and_test

    def watching(network, spec, fold, *args, **words):
        seen[network.__name__.rpartition(".")[2]] = len(fold.added)
        return real_learn(network, spec, fold, *args, **words)

    monkeypatch.setattr(stage_main, "train_and_test", watching)
    main("segment", "real+synthetic")
    main("classify", "real+synthetic")
    assert seen == {"segment": 30, "classify": 40}


def test_random_labels_are_one_a_patient_and_new_for_every_permutation(root, monkeypatch):
    def smallest_network(channels, *_, **__):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))

    monkeypatch.setattr(classify, "build_network", smallest_network)
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["downstream"]["permutations"] = 20
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    downstream_fixtures.write_pool(root, "random-labels")
    main("classify", "random-labels")
    predictions = table("classify", "random-labels", "predictions")
    assert sorted(predictions["seed"].unique()) == list(range(20))
    labels = predictions.groupby(["seed", "subject"])["label"]
    assert (labels.nunique() == 1).all()
    drawn = labels.first().unstack("seed")
    assert (drawn.sum() == len(drawn) // 2).all()
    assert len(set(map(tuple, drawn.to_numpy().T))) > 1
    main("segment", "random-labels")
    status = json.loads(Path("data/downstream/segment-random-labels/status.json").read_text())
    assert status == {"0": "not run"}
