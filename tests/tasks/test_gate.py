"""The gate accepts fresh patients, refuses what is no picture, names faults of sets by measures
that stand beside real ones, and writes the same bytes."""  # fmt: skip

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tasks.common.slice_set import SliceSet
from tasks.gate.__main__ import main as gate
from tasks.gate.evaluate import evaluate
from tasks.gate.reference import prepare_reference
from tasks.gate.verdict import GateResult, not_judged_result
from tasks.generate.__main__ import main as generate
from tasks.params.gate import Gate, MeasureLimits
from tasks.stage.errors import InputError
from tests.tasks.gate_fixtures import (
    CONFIG,
    judged,
    judged_damaged,
    judged_one_site,
    oracle,
    real,
    rng,
    some,
    write_real_slices,
    write_stage,
)
from tests.tasks.known_generators import damaged
from tests.tasks.synthetic_cohort import as_synthetic

ROOT = Path(__file__).parents[2]


@cache
def accepted() -> GateResult:
    return judged(oracle())


def test_fresh_patients_of_the_simulator_are_accepted() -> None:
    result = accepted()
    assert result.verdict == "accepted", result.reasons
    assert result.images["accepted"] >= 0.9 * result.images["n"]
    assert all(measure.method and measure.n > 0 for measure in result.measures.values())
    extrapolated = next(name for name in result.measures if name.startswith("FD∞"))
    for name, measure in result.measures.items():
        low, high = measure.value_ci95 or (np.nan, np.nan)
        assert low <= (measure.value or np.nan) <= high, name
        assert (measure.null95 is None) == (name == extrapolated), name
    for attack in result.membership.values():  # nobody trained on anything
        assert attack.ci95 is not None and attack.ci95[0] <= 0.5
    agreement = result.measures["mask_agreement"]
    assert agreement.baseline is not None and agreement.baseline > 0.4
    assert result.as_json()["weights"].keys() == {next(iter(result.measures))}


def test_every_measure_is_had_for_labels_sizes_and_sites() -> None:
    result = accepted()
    names = {"label 0", "label 1", "tumour size small", "site A", "site B"}
    assert names <= set(result.subgroups)
    for name in ("label 1", "site A"):
        measured = set(result.subgroups[name].measures)
        assert measured == set(result.measures) - ({"site_coverage"} if "site" in name else set())


def test_masks_of_other_slices_are_doubted_by_a_segmenter_too() -> None:
    result = judged_damaged("masks swapped")
    assert "mask_agreement" in " ".join(result.reasons), result.reasons


def test_a_generator_of_one_site_leaves_the_other_out() -> None:
    result = judged_one_site()
    assert [reason.split(":")[0] for reason in result.reasons] == ["site_coverage"]


def test_a_generator_of_easy_tumours_is_warned_which_ones_it_leaves_out() -> None:
    area = oracle().masks.sum(axis=(1, 2))
    result = judged(oracle().select((area == 0) | (area > np.median(area[area > 0]))))
    assert "rare: 0% of synthetic tumours" in str(result.subgroups["tumour size small"].warning)


def test_without_a_limit_the_ratio_of_chance_is_the_limit() -> None:
    strict = CONFIG.model_copy(update={"limits": MeasureLimits(frechet=None, nearest_ssim=None)})
    blurred = evaluate(as_synthetic(damaged(some(oracle(), 80), "blurred", rng())), real(), strict)
    distance = next(iter(blurred.measures.values()))
    assert distance.limit == distance.null95
    assert 1 < (distance.limit or (0, 0))[1] < 2  # type: ignore[operator]
    low, high = blurred.measures["nearest_ssim"].limit or (None, None)
    assert low is not None and high is not None and low < 1 < high


def test_slices_without_masks_are_not_blamed_for_them() -> None:
    bare = as_synthetic(oracle())
    table = bare.table.assign(masked=False)
    result = evaluate(SliceSet(bare.images, np.zeros_like(bare.masks), table), real(), CONFIG)
    assert result.verdict == "accepted", result.reasons
    assert result.measures["mask_agreement"].ratio is None
    assert result.measures["tumor_size"].ratio is None


@pytest.mark.verify
def test_slices_from_elsewhere_pass_the_gate_like_a_generators_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["synthetic"]["source"] = "bought"
    tree["downstream"]["tasks"] = ["classify"]  # a segmenter could not learn without masks
    for section in ("gate", "generate"):
        tree[section]["threads"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    write_real_slices(tmp_path, real().train, real().val)
    Path("bought").mkdir()
    for row, image in enumerate(oracle().images[:, 0]):
        grey = ((image + 1) * 127.5).round().astype(np.uint8)
        Image.fromarray(grey).save(f"bought/{row:03}.png")
    oracle().table[["label"]].to_csv("bought/slices.csv", index=False)
    generate("0")
    gate("0")
    metrics = json.loads(Path("data/gate/0/metrics.json").read_text())
    assert metrics["verdict"] == "accepted", metrics["reasons"]
    assert metrics["measures"]["mask_label"]["ratio"] is None
    assert metrics["images"]["accepted"] >= 0.9 * len(oracle())


@pytest.mark.verify
def test_weights_given_by_path_add_their_distance_and_their_hash(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.models.inception import Inception3

    torch.manual_seed(0)
    state = Inception3(num_classes=1008, aux_logits=False, init_weights=False).state_dict()
    save_file(state, tmp_path / "fid.safetensors")
    config = Gate(seed=1, threads=1, draws=20, segmenter_steps=0,
                  inception=str(tmp_path / "fid.safetensors"))  # fmt: skip
    few = np.arange(40)
    sides = [real().train.select(few), real().val.select(few)]
    result = evaluate(as_synthetic(oracle().select(few)), prepare_reference(*sides, config), config)
    fid = result.measures["FID"]
    assert fid.limit is None
    assert fid.ratio is not None and fid.ratio > 0
    assert result.weights["FID"][:12] in fid.method
    assert result.measures["mask_agreement"].ratio is None


def test_pixels_that_are_no_numbers_are_rejected_one_by_one() -> None:
    images = oracle().images[:40].copy()
    images[3, 0, 10, 10] = np.nan
    images[4] *= 3
    result = judged(SliceSet(images, oracle().masks[:40], oracle().table[:40]))
    assert result.samples["reason"].tolist()[3:5] == ["broken", "broken"]
    assert result.images["accepted"] >= 35


@pytest.mark.verify
def test_the_order_of_the_images_changes_no_decision() -> None:
    order = rng().permutation(len(oracle()))
    ahead, shuffled = accepted(), judged(oracle().select(order))
    np.testing.assert_array_equal(
        ahead.samples["accepted"].to_numpy()[order], shuffled.samples["accepted"]
    )


def test_too_few_or_other_sized_images_are_rejected() -> None:
    with pytest.raises(InputError, match="5 synthetic slices"):
        judged(oracle().select(np.arange(5)))
    small = SliceSet(oracle().images[..., ::2, ::2], oracle().masks, oracle().table)
    with pytest.raises(InputError, match="resample"):
        judged(small)


def write_eight_patients(folder: Path) -> None:
    """Write what the stage reads, with eight patients of each kind."""
    train, val = (of_patients(slices, 8) for slices in (real().train, real().val))
    write_stage(folder, train, val, of_patients(oracle(), 8))
    summary = folder / "data/synthetic/0/summary.json"
    summary.write_text(json.dumps({"generator_sha256": "ab12"}))


def test_the_stage_writes_verdict_and_scores_of_these_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_eight_patients(tmp_path)
    gate("0")
    metrics = json.loads(Path("data/gate/0/metrics.json").read_text())
    assert metrics["verdict"] == "accepted", metrics["reasons"]
    assert metrics["generator_sha256"] == "ab12"
    samples = pd.read_parquet("data/gate/0/samples.parquet")
    training_slices = len(of_patients(real().train, 8))
    assert samples["nearest_train_row"].isin(range(training_slices)).all()


@pytest.mark.verify
def test_the_stage_writes_the_same_bytes_in_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_eight_patients(tmp_path)
    folder = Path("data/gate/0")
    gate("0")
    written = [(folder / name).read_bytes() for name in ("metrics.json", "samples.parquet")]
    shutil.rmtree(folder)
    subprocess.run(
        [sys.executable, "-m", "tasks.gate", "0"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    again = [(folder / name).read_bytes() for name in ("metrics.json", "samples.parquet")]
    assert again == written


def of_patients(slices: SliceSet, count: int) -> SliceSet:
    """The slices of the first patients."""
    subjects = slices.table["subject"].unique()[:count]
    return slices.select(slices.table["subject"].isin(subjects).to_numpy())


def test_training_slices_that_taught_the_generator_nothing_are_no_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learnt from labelled slices: unlabelled ones change no verdict, however many there are."""
    monkeypatch.chdir(tmp_path)
    write_stage(tmp_path, real().train, real().val, oracle())
    compared: list[SliceSet] = []

    def keep_training_slices(
        synthetic: SliceSet, train: SliceSet, *_: object, **__: object
    ) -> GateResult:
        compared.append(train)
        return not_judged_result(synthetic, "not asked here")

    monkeypatch.setattr("tasks.gate.__main__.verdict", keep_training_slices)
    gate("0")
    path = Path("data/slices/slices.parquet")
    table = pd.read_parquet(path)
    hidden = (table["partition_0"] == "train") & (table.index % 5 == 0)
    table.assign(label=table["label"].mask(hidden, -1)).to_parquet(path)
    gate("0")
    assert len(compared[1]) == len(compared[0]) - hidden.sum() < len(compared[0])
    assert set(compared[1].table["label"]) == {0, 1}
