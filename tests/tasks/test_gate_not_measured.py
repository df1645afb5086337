"""The gate says what it could not measure, and a verdict does not rest on what was not."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.common.gate_requirements import (
    LEAST_MARKED,
    CannotJudgeError,
    why_no_null_range,
    why_no_verdict,
    why_not_measured,
)
from tasks.common.slice_set import SliceSet
from tasks.gate import memorisation, reference_models
from tasks.gate.__main__ import main as gate
from tasks.gate.evaluate import evaluate
from tasks.gate.measure import LimitRule, Measure
from tasks.gate.measure_catalogue import FRECHET
from tasks.gate.measure_functions import mask_matches_label
from tasks.gate.memorisation import NearDuplicates
from tasks.gate.reference import prepare_reference
from tasks.gate.set_measures import (
    MeasureGroup,
    Sets,
    SubsampleSet,
    evaluate_measure_group,
)
from tasks.gate.slice_features import compute_slice_features
from tasks.gate.unmeasured_causes import Cause, NotMeasured
from tasks.gate.verdict import GateResult
from tasks.measures.anatomy import mask_agreement
from tasks.measures.patient_subsampling import label_groups, null_splits, subsamples
from tasks.params.gate import Gate, MeasureLimits
from tests.tasks.gate_fixtures import CONFIG, judged, oracle, real, some, write_stage
from tests.tasks.synthetic_cohort import as_synthetic

QUICK = Gate(seed=1, threads=1, draws=20, segmenter_steps=0)


def of_label(slices: SliceSet, label: int, count: int) -> SliceSet:
    return slices.select(np.flatnonzero(slices.table["label"].to_numpy() == label)[:count])


def joined(*sides: SliceSet) -> SliceSet:
    return SliceSet(
        np.concatenate([side.images for side in sides]),
        np.concatenate([side.masks for side in sides]),
        pd.concat([side.table for side in sides], ignore_index=True),
    )


def without_outlines(slices: SliceSet, keep: float) -> SliceSet:
    """The slices with the outlines of some patients missing."""
    people = slices.table["subject"].unique()
    known = slices.table["subject"].isin(people[: round(keep * len(people))]).to_numpy()
    masks = slices.masks * known[:, None, None].astype(np.uint8)
    return SliceSet(slices.images, masks, slices.table.assign(mask_known=known))


@pytest.mark.parametrize("others", [1, 3])
def test_a_scarce_label_is_left_out_and_the_other_judged_in_full(others: int) -> None:
    result = judged(joined(of_label(oracle(), 1, 45), of_label(oracle(), 0, others)))
    assert result.verdict == "accepted", result.reasons
    assert f"{others} synthetic slices without tumour" in result.not_measured["label_0"]
    assert result.measures[FRECHET].n >= 20  # the validation patients' tumours
    assert all(measure.ratio is not None for name, measure in result.measures.items()
               if measure.limit is not None and name != "site_coverage")  # fmt: skip


@cache
def without_tumours() -> GateResult:
    """The verdict on fresh slices of which none shows a tumour."""
    return judged(of_label(oracle(), 0, 60))


def test_a_set_without_any_tumour_is_not_accepted_beside_patients_who_have_them() -> None:
    result = without_tumours()
    assert result.verdict == "rejected"
    assert "label_1: not measured: 0 synthetic slices with tumour" in " ".join(result.reasons)
    assert "no outlined tumour on the side of: synthetic" in result.not_measured["tumor_size"]
    assert {"label_1", "tumor_size"} <= set(result.as_json()["blocking"])
    lenient = CONFIG.model_copy(update={"required": ()})
    free = evaluate(as_synthetic(of_label(oracle(), 0, 60)), real(), lenient)
    assert free.verdict == "accepted", free.reasons
    assert free.not_measured == result.not_measured
    assert not free.as_json()["blocking"]


def test_labels_are_drawn_as_often_as_the_scarcest_side_has_them() -> None:
    def table(counts: tuple[int, int], patients: int) -> pd.DataFrame:
        label = np.repeat([0, 1], counts)
        subject = [f"p{i % patients}" for i in range(len(label))]
        return pd.DataFrame({"label": label, "subject": subject})

    sides = table((2, 45), 10), table((150, 150), 20), table((60, 60), 10)
    assert label_groups(sides, least=10) == ((1,),)
    (draw,) = subsamples(*sides, count=1, share=1.0, seed=0, groups=((0,), (1,)))
    assert len(draw.synthetic) == len(draw.other) == len(draw.reference) == 2 + 45


def test_draws_without_a_figure_are_counted_and_do_not_spoil_the_others() -> None:
    sets = Sets(real().val_features, real().train_features, real().val_features)
    tables = [features.table for features in (sets.synthetic, sets.train, sets.val)]
    drawn = list(subsamples(*tables, count=20, share=1.0, seed=0))
    lost = {drawn[3].seed}

    def family(lost: set[int]) -> MeasureGroup:
        return MeasureGroup(
            lambda _, draw: (np.array([np.nan if draw.seed in lost else 2.0]), np.array([1.0])),
            {"x": (LimitRule("high", 1.5), "")},
            "train",
        )

    measure = evaluate_measure_group(sets, family(lost), SubsampleSet(drawn))["x"]
    assert (measure.ratio, measure.meets_limit) == (2.0, False)
    assert (measure.draws, measure.nan_draws) == (20, 1)
    most = evaluate_measure_group(
        sets, family({draw.seed for draw in drawn[:11]}), SubsampleSet(drawn)
    )["x"]
    assert most.ratio is None and most.meets_limit is None
    assert most.not_measured == NotMeasured(Cause.NO_FIGURE, "11 of 20 draws gave no figure")


def test_a_site_that_real_patients_imitate_no_better_is_not_held_against_a_generator() -> None:
    sets = Sets(real().val_features, real().train_features, real().val_features)
    tables = [features.table for features in (sets.synthetic, sets.train, sets.val)]
    drawn = SubsampleSet(
        list(subsamples(*tables, count=20, share=1.0, seed=0)),
        null={"train": list(null_splits(*tables[1:], count=40, seed=0))},
    )

    def measured(of_real: float, *, beyond_chance: bool) -> Measure:
        """A set of which a site is missing, beside real patients with such a ratio."""
        group = MeasureGroup(
            lambda those, _: (
                np.array([of_real if those.synthetic is those.train else 0.0]), np.array([1.0])
            ),
            {"x": (LimitRule("low", 0.65, beyond_chance=beyond_chance), "")},
            "train",
        )  # fmt: skip
        return evaluate_measure_group(sets, group, drawn)["x"]

    assert measured(0.9, beyond_chance=True).status == "outside"
    assert measured(0.3, beyond_chance=False).status == "outside"
    unknown = measured(0.3, beyond_chance=True)
    assert unknown.status is None and unknown.not_measured is not None
    assert "as low as 0.3 times that of others (limit 0.65)" in unknown.not_measured.why


@cache
def few_patients(count: int) -> GateResult:
    """Fresh patients judged beside so many validation patients; the limit of chance is asked."""
    config = QUICK.model_copy(update={"limits": MeasureLimits(diversity=None, spectrum=None)})
    val = real().val
    people = val.table["subject"].unique()[:count]
    few = val.select(val.table["subject"].isin(people).to_numpy())
    return evaluate(
        as_synthetic(some(oracle(), 60)), prepare_reference(real().train, few, config), config
    )


def test_what_too_few_patients_do_not_suffice_for_is_reported_and_prevents_acceptance() -> None:
    result = few_patients(3)
    for name in ("diversity", "spectrum"):  # beside validation, and beside training patients
        assert "no range of chance" in result.not_measured[name]
        assert result.measures[name].limit is None
    assert "validation tumours" in result.not_measured["tumor_copies"]
    assert result.verdict == "rejected"
    reasons = " ".join(result.reasons)
    assert "diversity: not measured" in reasons
    assert "validation tumours to set its limits by, at least 20 are needed" in reasons
    assert json.dumps(result.as_json())


def test_a_rejection_for_what_is_missing_names_the_key_that_goes_on_without() -> None:
    reasons = " ".join(few_patients(3).reasons)
    assert "take tumor_copies out of gate.required to accept without" in reasons
    assert "set gate.limits.diversity to a figure" in reasons
    bare = " ".join(without_tumours().reasons)
    assert "gate.required lists label_1" in bare  # which the set itself lacks: not waved through
    assert "take label_1 out" not in bare


def test_tumours_of_one_validation_patient_cannot_be_held_against_each_other() -> None:
    """The gate compares them with tumours of other unseen patients; `slices` counts likewise."""
    val = real().val
    tumours = val.table.loc[val.table["label"] == 1, "subject"]
    subject = tumours.value_counts().index[0]
    others = val.table["subject"].isin(set(val.table["subject"]) - set(tumours))
    alone = val.select((others | (val.table["subject"] == subject)).to_numpy())
    if others.sum() == 0:  # everybody has tumours: the others keep their slices without
        alone = val.select(
            ((val.table["label"] == 0) | (val.table["subject"] == subject)).to_numpy()
        )
    missing = why_not_measured(real().train.table, alone.table)["tumor_copies"]
    assert "in one patient" in missing and "two patients with tumours" in missing
    reference = prepare_reference(real().train, alone, QUICK)
    result = evaluate(as_synthetic(some(oracle(), 60)), reference, QUICK)
    assert result.not_measured["tumor_copies"].startswith("0 validation tumours")


def test_tumours_without_outlines_are_not_slices_without_tumour() -> None:
    mixed = without_outlines(real().val, 0.5)
    features_of_mixed = compute_slice_features(mixed, device="cpu")
    known = mixed.table["mask_known"].to_numpy()
    assert np.isnan(mask_matches_label(features_of_mixed)[~known]).all()
    assert np.nanmean(mask_matches_label(features_of_mixed)) == 1
    train = without_outlines(real().train, 0.5)
    outlined = train.table["mask_known"].to_numpy()
    config = CONFIG.model_copy(update={"segmenter_steps": 20})
    models = [
        reference_models.fit_reference_models(
            slices, real().val, features, real().val_features, config, device="cpu"
        )[0]
        for slices, features in (
            (train, real().train_features),
            (train.select(outlined), real().train_features.select(outlined)),
        )
    ]  # fmt: skip
    partly_outlined, outlined_only = (model.segmenter for model in models)
    assert partly_outlined is not None and outlined_only is not None
    for a, b in zip(partly_outlined.parameters(), outlined_only.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_near_copies_are_compared_at_equal_n() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), rng.integers(1, 6, 400))  # alike within each group
    size = np.bincount(groups)[groups] - 1
    counted = NearDuplicates(size, most=8)
    assert counted.share_of(len(groups)) == pytest.approx((size > 0).mean())
    for n in (2, 50, 300):
        drawn = []
        for _ in range(300):
            part = rng.choice(groups, n, replace=False)
            drawn.append((np.bincount(part)[part] > 1).mean())
        assert counted.share_of(n) == pytest.approx(np.mean(drawn), abs=0.01)
    assert NearDuplicates(np.full(1000, 8), most=8).share_of(10) == 1  # counted no further


def test_a_large_set_of_fresh_slices_is_not_called_collapsed() -> None:
    fresh = oracle()
    part = fresh.select(np.arange(0, len(fresh), 6))
    few = memorisation.near_duplicates(part.images, real().held_out)
    many = memorisation.near_duplicates(
        np.concatenate([fresh.images] * 2), real().held_out, most=memorisation.MOST_COUNTED
    )  # each slice twice: a near-copy of everything
    assert many.share_of(len(many.counts)) == 1
    assert many.share_of(len(part)) < 0.3
    assert few.share_of(len(part)) <= many.share_of(len(part))


def test_a_set_that_cannot_be_judged_is_rejected_with_the_reason_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    val = real().val
    alone = val.select((val.table["subject"] == val.table["subject"][0]).to_numpy())
    write_stage(tmp_path, real().train, alone, oracle())
    gate("0")
    metrics = json.loads(Path("data/gate/0/metrics.json").read_text())
    assert metrics["verdict"] == "rejected"
    (reason,) = metrics["reasons"]
    assert "1 validation patient, at least 2" in reason
    assert "validation slices, at least 20" in reason
    assert "slices.val_fraction" in reason
    assert metrics["images"] == {"n": len(oracle()), "accepted": 0, "memorised": 0}
    assert reason in capsys.readouterr().out
    samples = pd.read_parquet("data/gate/0/samples.parquet")
    assert not samples["accepted"].any()
    assert (samples["reason"] == "unjudged").all()


def test_the_judge_of_folders_still_rejects_what_it_cannot_judge() -> None:
    val = real().val
    with pytest.raises(CannotJudgeError, match="1 validation patient"):
        of_one_patient = (val.table["subject"] == val.table["subject"][0]).to_numpy()
        prepare_reference(real().train, val.select(of_one_patient), QUICK)


def test_the_segmenter_asks_for_as_many_tumours_as_is_said_beforehand() -> None:
    assert mask_agreement.MARKED == LEAST_MARKED


def test_what_the_gate_will_lack_is_known_from_the_table_of_slices() -> None:
    table = pd.DataFrame({"label": [0, 1] * 30, "subject": np.repeat(list("abcdef"), 10)})
    train, val = table[:40], table[40:].assign(mask_known=[True] * 18 + [False] * 2)
    assert not why_no_verdict(train, val)
    missing = why_not_measured(train, val)
    assert set(missing) == {"tumor_copies"}
    assert "9 validation slices with an outlined tumour" in missing["tumor_copies"]
    assert "at least 20 are needed (11 more)" in missing["tumor_copies"]
    assert "4 to validate" in (why_no_null_range(train, val) or "")
    (shortfall,) = why_no_verdict(table[:15], val)
    assert "15 training slices" in shortfall.finding
    assert "slices.training_slices" in shortfall.remedy
    scarce = [pd.DataFrame({"label": np.repeat([0, 1], counts), "subject": ["a", "b"] * 10})
              for counts in ((5, 15), (15, 5))]  # fmt: skip
    assert (
        "no label has 10 slices in training and in validation" in why_no_verdict(*scarce)[0].finding
    )
