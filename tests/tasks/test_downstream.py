import json
import shutil
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tasks.downstream import __main__ as stage_main
from tasks.downstream import segment, train_and_test, volume_dice
from tasks.downstream.__main__ import import_task, main
from tasks.downstream.volume_dice import dice_of_masks, read_test_volumes, to_acquired_grid
from tasks.params.downstream import ClassifyTraining, SegmentTraining, TaskTraining
from tasks.params.slices import Slices
from tasks.schemas.predictions import (
    ClassifyPredictions,
    PatientScores,
    RunOutcomes,
    SegmentPredictions,
)
from tasks.stage.errors import InputError
from tasks.training.balanced_batches import balanced_batches
from tasks.training.fit import fit, predict_probabilities
from tasks.volumes.resampling import SliceGrid, resample_slices
from tests.tasks import downstream_fixtures as room


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    room.write(tmp_path)
    return tmp_path


def table(task: str, arm: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(f"data/downstream/{task}-{arm}/{name}.parquet")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_every_test_slice_is_predicted_once_by_every_seed(root, task):
    main(task, "real+classical+synthetic")
    schema = {"classify": ClassifyPredictions, "segment": SegmentPredictions}[task]
    found = schema.validate(table(task, "real+classical+synthetic", "predictions"))
    slices = pd.read_parquet("data/slices/slices.parquet")
    test = slices[slices["partition_0"] == "test"]
    for _, rows in found.groupby("seed"):
        assert rows["row"].tolist() == test["row"].tolist()
        assert rows["label"].tolist() == test["label"].tolist()
    patients = PatientScores.validate(table(task, "real+classical+synthetic", "patients"))
    assert set(patients["subject"]) == set(test["subject"])
    history = pd.read_csv(f"data/downstream/{task}-real+classical+synthetic/history.csv")
    assert history["step"].tolist() == [4, 8, 4, 8]


def test_the_same_bytes_come_out_twice(root):
    room.write(root, seeds=(0,))
    main("segment", "real+classical+synthetic")
    first = files(root / "data/downstream/segment-real+classical+synthetic")
    main("segment", "real+classical+synthetic")
    assert files(root / "data/downstream/segment-real+classical+synthetic") == first


def captured(monkeypatch, task: str, arm: str) -> list[tuple[dict, list]]:
    """Initial weights and batches of each run of an arm, as training received them."""
    seen = []
    fit = train_and_test.fit

    def spy(network, loss, batches, *rest, **options):
        kept = list(batches)
        seen.append(({k: v.clone() for k, v in network.state_dict().items()}, kept))
        return fit(network, loss, iter(kept), *rest, **options)

    monkeypatch.setattr(train_and_test, "fit", spy)
    main(task, arm)
    monkeypatch.setattr(train_and_test, "fit", fit)
    return seen


def test_arms_share_initial_weights_and_the_order_of_their_common_slices(root, monkeypatch):
    real = captured(monkeypatch, "classify", "real")
    mixed = captured(monkeypatch, "classify", "real+synthetic")
    alone = captured(monkeypatch, "classify", "synthetic")
    for (weights, first), (others, second), (_, third) in zip(real, mixed, alone, strict=True):
        assert all(torch.equal(value, others[name]) for name, value in weights.items())
        for a, b, c in zip(first, second, third, strict=True):
            half = len(a[0]) // 2
            assert torch.equal(a[0][:half], b[0][:half])  # the real half
            assert torch.equal(b[0][half:], c[0][half:])  # the added half
    weights, others = real[0][0], real[1][0]
    assert not all(torch.equal(value, others[name]) for name, value in weights.items())


def test_classical_arms_draw_the_same_augmentation(root, monkeypatch):
    real = captured(monkeypatch, "classify", "real+classical")[0][1]
    mixed = captured(monkeypatch, "classify", "real+classical+synthetic")[0][1]
    plain = captured(monkeypatch, "classify", "real")[0][1]
    half = len(real[0][0]) // 2
    assert torch.equal(real[0][0][:half], mixed[0][0][:half])
    assert not torch.equal(real[0][0][:half], plain[0][0][:half])


def test_pretraining_sees_added_slices_first_and_real_ones_after(root, monkeypatch):
    mixed = captured(monkeypatch, "classify", "synthetic")[0][1]
    real = captured(monkeypatch, "classify", "real")[0][1]
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["downstream"]["classify"]["strategy"] = "pretrain"
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    staged = captured(monkeypatch, "classify", "real+synthetic")[0][1]
    for step, (images, _, _) in enumerate(staged):
        assert torch.equal(images, (mixed if step < 4 else real)[step][0])


@pytest.mark.parametrize("prior", [0.05, 0.5, 0.9])
def test_batches_are_balanced_whatever_the_sources_priors(prior):
    rng = np.random.default_rng(0)
    first = (rng.random(60) < 0.5).astype(int)
    second = (np.arange(100) < 100 * prior).astype(int)
    drawn = list(balanced_batches(first, second, steps=50, batch=16, seed=(3, 4)))
    assert len(drawn) == 50
    for a, b in drawn:
        assert len(a) == len(b) == 8
        assert first[a].sum() == second[b].sum() == 4
    used = np.concatenate([a for a, _ in drawn])
    counts = np.bincount(used, minlength=60)[first == 1]
    assert counts.max() - counts.min() <= 1  # every slice as often as any other of its label


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
    with pytest.raises(InputError, match="sub-000 and sub-023 are on different sides"):
        main("segment", "real")


def test_an_added_slice_of_a_held_out_patient_stops_the_run(root):
    images = np.load("data/slices/images.npy")
    pool = np.load("data/pool/synthetic/images.npy")
    pool[3] = images[-1]
    np.save("data/pool/synthetic/images.npy", pool)
    with pytest.raises(InputError, match="the added slices hold one of patient sub-023"):
        main("segment", "synthetic")


def test_too_few_added_slices_leave_empty_tables_and_a_word(root):
    room.write_pool(root, "synthetic", 0, status="too few")
    main("classify", "synthetic")
    assert table("classify", "synthetic", "predictions").empty
    assert PatientScores.validate(table("classify", "synthetic", "patients")).empty
    status = json.loads(Path("data/downstream/classify-synthetic/status.json").read_text())
    assert status == {"0": "too few"}


def test_spare_seeds_are_trained_and_a_network_that_never_learns_is_reported(root, monkeypatch):
    room.write(root, seeds=(0,), reruns=2)
    monkeypatch.setattr(segment, "beats_chance", lambda metric: False)
    main("segment", "real")
    ended = RunOutcomes.validate(table("segment", "real", "runs"))
    assert ended["seed"].tolist() == [0, 1, 2] and not ended["learnt"].any()
    assert set(table("segment", "real", "predictions")["seed"]) == {0, 1, 2}


def test_a_killed_stage_takes_up_behind_its_finished_runs_and_ends_in_the_same_bytes(
    root, monkeypatch
):
    main("segment", "real+synthetic")
    folder = root / "data/downstream/segment-real+synthetic"
    whole = files(folder)
    shutil.rmtree(folder)
    trained, learn = [], stage_main.train_and_test

    def dying(*given, seed, **options):
        trained.append(seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return learn(*given, seed=seed, **options)

    monkeypatch.setattr(stage_main, "train_and_test", dying)
    with pytest.raises(KeyboardInterrupt):
        main("segment", "real+synthetic")
    assert not folder.exists()
    main("segment", "real+synthetic")
    assert trained == [0, 1, 1]
    assert files(folder) == whole
    assert not list(Path(".checkpoints").iterdir())


def test_dice_over_whole_volumes_stands_beside_that_over_chosen_slices(root):
    room.write(root, steps=40, seeds=(0,))
    main("segment", "real")
    found = table("segment", "real", "patients").pivot(
        index="subject", columns="metric", values="value"
    )
    assert found["dice_volume"].notna().all()
    assert found["dice_volume"].mean() == pytest.approx(found["dice"].mean(), abs=0.15)
    image = nib.load("data/volumes/b/sub-002_mask.nii.gz")
    empty = nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine)
    nib.save(empty, "data/volumes/b/sub-002_mask.nii.gz")
    main("segment", "real")
    found = table("segment", "real", "patients").set_index(["metric", "subject"])["value"]
    assert np.isnan(found["dice_volume", "sub-002"])
    assert found["dice_volume"].drop("sub-002").notna().all()


def test_a_prediction_goes_back_to_the_grid_that_its_slices_came_from():
    """Sampled onto a rotated, shifted and coarser grid and back, a smooth body stays in place."""
    x, y, _ = np.mgrid[:60, :50, :4]
    body = (x - 21) ** 2 / 9**2 + (y - 30) ** 2 / 14**2 <= 1
    grid = SliceGrid((27.3, 22.9), (1.6, 1.9), 40)
    soft = resample_slices(body.astype(np.float32), grid, fill=0.0)  # (Z,H,W)
    back = to_acquired_grid(torch.from_numpy(soft)[:, None], grid, body.shape) >= 0.5
    assert dice_of_masks(back, body) > 0.95
    exact = SliceGrid((29.5, 24.5), (1.0, 1.0), 60)
    soft = resample_slices(body.astype(np.float32), exact, fill=0.0)
    back = to_acquired_grid(torch.from_numpy(soft)[:, None], exact, body.shape)
    assert back == pytest.approx(body.astype(np.float32))


def test_whole_volumes_hold_every_modality_on_the_grid_of_the_first(root):
    path = root / "data/volumes/b/manifest.parquet"
    first = pd.read_parquet(path)
    coarse = nib.load("data/volumes/b/sub-002_image.nii.gz")
    half = nib.Nifti1Image(coarse.get_fdata()[::2, ::2], coarse.affine @ np.diag([2, 2, 1, 1]))
    nib.save(half, "data/volumes/b/sub-002_t1.nii.gz")
    second = first[first["subject"] == "sub-002"].assign(
        modality="T1", image="sub-002_t1.nii.gz", mask=None, mask_status="missing"
    )
    pd.concat([first, second]).to_parquet(path)
    config = Slices.model_validate(
        yaml.safe_load(Path("params.yaml").read_text())["slices"] | {"modalities": ["FLAIR", "T1"]}
    )
    (one,) = read_test_volumes(["b"], ["sub-002"], config, None)
    assert one.images.shape == (6, 2, room.SIZE, room.SIZE)
    assert one.mask.shape == coarse.shape and one.mask.any()
    inside = one.images[:, 0] > -1
    assert np.corrcoef(one.images[:, 0][inside], one.images[:, 1][inside])[0, 1] > 0.8


def test_slices_without_an_outline_teach_no_outlines(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices["mask_known"] = slices["subject"] != "sub-002"
    slices.to_parquet("data/slices/slices.parquet")
    main("segment", "real")
    main("classify", "real")
    assert "sub-002" not in set(table("segment", "real", "predictions")["subject"])
    assert "sub-002" in set(table("classify", "real", "predictions")["subject"])


def test_a_split_by_slice_has_its_patients_on_several_sides(root):
    room.write_pool(root, "real+slice-split")
    main("segment", "real+slice-split")
    found = table("segment", "real+slice-split", "predictions")
    slices = pd.read_parquet("data/slices/slices.parquet")
    held_out = slices[slices["partition_0"] == "test"]
    assert set(found["subject"]) > set(held_out["subject"])
    assert (found.groupby("seed").size() == len(held_out)).all()
    assert "dice_volume" not in set(table("segment", "real+slice-split", "patients")["metric"])


def test_slices_that_a_fold_does_not_use_are_nowhere_and_no_leak(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices.loc[slices.index[slices["subject"] == "sub-002"][:2], "partition_0"] = "unused"
    slices.to_parquet("data/slices/slices.parquet")
    main("classify", "real")
    found = table("classify", "real", "predictions")
    assert (found["subject"] == "sub-002").sum() == 2 * (6 - 2)


def test_unlabelled_slices_are_left_out(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices.loc[slices["subject"] == "sub-002", "label"] = -1
    slices.to_parquet("data/slices/slices.parquet")
    main("classify", "real")
    assert "sub-002" not in set(table("classify", "real", "predictions")["subject"])


def test_validation_without_tumour_is_one_clear_line(root):
    slices = pd.read_parquet("data/slices/slices.parquet")
    slices.loc[slices["partition_0"] == "val", "label"] = 0
    slices.to_parquet("data/slices/slices.parquet")
    with pytest.raises(InputError, match="the val patients need slices with and without tumour"):
        main("classify", "real")


@pytest.mark.parametrize("side", ["Test", None])
def test_a_side_of_the_split_that_is_none_is_refused(root, side):
    """Its patients would vanish in silence."""
    room.write(root, steps=8, seeds=(0,))
    path = root / "data/slices/slices.parquet"
    slices = pd.read_parquet(path)
    slices.loc[slices["partition_0"] == "test", "partition_0"] = side
    slices.to_parquet(path)
    with pytest.raises(
        InputError, match=r"partition_0 of \d+ slices is (None|nan|'Test'); expected"
    ):
        main("classify", "real")


def test_an_unknown_arm_is_one_line(root):
    room.write(root, steps=8, seeds=(0,))
    with pytest.raises(InputError, match="unknown part 'synth'"):
        main("segment", "real+synth")


def test_both_networks_learn_an_easy_tumour(root):
    room.write(root, steps=40, seeds=(0,))
    main("classify", "real")
    main("segment", "real")
    patients = table("classify", "real", "patients")
    assert patients.loc[patients["metric"] == "auroc", "value"].mean() > 0.9
    patients = table("segment", "real", "patients")
    assert patients.loc[patients["metric"] == "dice", "value"].mean() > 0.5


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
    room.write_pool(root, arm)
    main("classify", arm)
    folder = Path(f"data/downstream/classify-{arm}")
    assert json.loads((folder / "status.json").read_text()) == {"0": "not run"}
    assert f"1 {side} patient shows one random label only" in capsys.readouterr().out
    assert len(pd.read_parquet(folder / "predictions.parquet")) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_few_patients_train_and_validate(root, count, task):
    retrain(root, {"train": count, "val": 1})
    for arm in ("real", "real+classical+synthetic"):
        main(task, arm)
        assert len(table(task, arm, "predictions")) > 0


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_a_network_that_diverges_learnt_nothing_and_ends_nothing(root, monkeypatch, task):
    """No judgement of it is a number."""
    module = import_task(task)
    room.write(root, steps=8, seeds=(0,))
    monkeypatch.setattr(module, "loss", lambda logits, *_: logits.mean() * float("nan"))
    main(task, "real")
    runs = table(task, "real", "runs")
    assert runs["val_metric"].tolist() == [0.0] and not runs["learnt"].any()
    assert len(table(task, "real", "predictions")) > 0


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


def test_random_labels_are_one_a_patient_and_new_for_every_permutation(root):
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["downstream"]["permutations"] = 20
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    room.write_pool(root, "random-labels")
    main("classify", "random-labels")
    found = table("classify", "random-labels", "predictions")
    assert sorted(found["seed"].unique()) == list(range(20))
    labels = found.groupby(["seed", "subject"])["label"]
    assert (labels.nunique() == 1).all()
    drawn = labels.first().unstack("seed")
    assert (drawn.sum() == len(drawn) // 2).all()
    assert len(set(map(tuple, drawn.to_numpy().T))) > 1
    main("segment", "random-labels")
    status = json.loads(Path("data/downstream/segment-random-labels/status.json").read_text())
    assert status == {"0": "not run"}


def test_of_a_volume_with_two_tumours_the_largest_part_is_kept_where_asked(root):
    """By default a volume has one tumour; what else is marked does not count."""

    class Marker(torch.nn.Module):
        """Marks what is bright."""

        def forward(self, images):
            return torch.where(images > 0, 9.0, -9.0)

    images = -np.ones((4, 1, 32, 32), np.float32)
    images[1:3, 0, 4:12, 4:12] = 1  # the tumour
    images[0, 0, 20:23, 20:23] = 1  # something else
    mask = np.zeros((32, 32, 4), bool)
    grid = SliceGrid((15.5, 15.5), (1.0, 1.0), 32)
    mask[20:28, 20:28, 1:3] = True
    volume = volume_dice.TestVolume("sub-1", images, mask, grid)
    dice = {
        keep: volume_dice.dice_volume(
            Marker(), [volume], threshold=0.5, largest_component=keep, device=torch.device("cpu")
        )["sub-1"]
        for keep in (True, False)
    }
    assert dice[True] == 1
    assert dice[False] == pytest.approx(2 * 128 / (128 + 128 + 9))


def test_the_tested_network_is_the_average_of_its_last_weights(root):
    """Every step's weights count with the decay that is asked for; 0 takes the last ones."""
    weights = []

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            weights.append(float(self.slope.detach()))
            return images.mean((1, 2, 3))[:, None] * self.slope

    def run(ema):
        weights.clear()
        network = Line()
        images = torch.ones(4, 1, 8, 8)
        batches = [(images, images, torch.ones(4, 1))] * 40
        fit(
            network, lambda logits, *_: -logits.mean(), batches, lambda _: 0.5, images,
            training=TaskTraining(steps=40, ema=ema, evaluations=1),
        )  # fmt: skip
        return float(network.slope.detach())

    last = run(0.0)
    assert all(later >= earlier for earlier, later in pairwise(weights[:40]))
    averaged = run(0.9)
    steps = [*weights[1:40], last]
    expected = 0.0
    for number, value in enumerate(steps, start=1):
        decay = min(0.9, number / (number + 9))
        expected = decay * expected + (1 - decay) * value
    assert averaged == pytest.approx(expected, rel=1e-4) and averaged < last


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_a_slice_and_its_mirror_image_get_mirrored_predictions(task):
    network = import_task(task).build_network(
        1, ClassifyTraining(network="resnet") if task == "classify" else SegmentTraining(), seed=0
    )
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    straight = predict_probabilities(network.eval(), images)
    mirrored = predict_probabilities(network, images.flip(-1))
    expected = straight.flip(-1) if task == "segment" else straight
    assert torch.allclose(mirrored, expected, atol=1e-6)


def test_bfloat16_stays_near_float32(root):
    main("segment", "real")
    exact = pd.read_csv("data/downstream/segment-real/history.csv")["train_loss"]
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["downstream"]["precision"] = "bf16"
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    main("segment", "real")
    rounded = pd.read_csv("data/downstream/segment-real/history.csv")["train_loss"]
    assert (exact != rounded).any()
    assert np.allclose(exact, rounded, rtol=0.02)
