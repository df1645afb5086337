"""Compare the synthetic slices of one fold with real slices and give a verdict with reasons.

Reads `data/slices`, `data/synthetic/FOLD`, `data/gan/FOLD` to attack the generator and, with
`gate.readers`, `data/review.json`; writes `data/gate/FOLD/`. A rejection is a result: the stage
writes it and ends with exit code 0. A set that cannot be judged, for example because there are too
few patients, is rejected with that reason.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks import params
from tasks.common import torch_setup
from tasks.common.fold_digest import hash_candidate, metrics_text, with_readers
from tasks.common.gate_requirements import CannotJudgeError
from tasks.common.generator_slices import WITHOUT_OUTLINES, teach_a_generator
from tasks.common.reader_criterion import unmet_criteria
from tasks.common.slice_set import SliceSet, read_slice_set, read_slices
from tasks.common.unreleasable import reason_not_to_release
from tasks.gate import generator_attack
from tasks.gate.evaluate import evaluate
from tasks.gate.membership import SHOWN, MembershipAttack
from tasks.gate.reference import prepare_reference
from tasks.gate.verdict import GateResult, not_judged_result
from tasks.params.gate import Gate
from tasks.schemas.review import Review, ReviewFigures, read_review
from tasks.schemas.samples import GatedSamples, Samples
from tasks.stage import stage_io
from tasks.stage.stage_runtime import run_stage


def main(fold: str) -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Gate)
    # Before hours of measuring: people may have edited the file.
    review = read_review() if config.readers is not None else None
    device = torch_setup.setup_torch(config.threads)
    source = Path("data/synthetic") / fold
    synthetic = read_slice_set(source, "samples.parquet")
    Samples.validate(synthetic.table)
    saw_all = saw_without_outlines(source)
    everything, val = (
        mark_shown(read_slices(fold, partition), without_outlines=saw_all)
        for partition in ("train", "val")
    )
    labelled = (everything.table["label"] >= 0).to_numpy()
    # Unlabelled slices are no reference for what a generator could imitate, but it may copy them.
    seen_unlabelled = everything.select(~labelled) if saw_all else None
    train = everything.select(labelled)
    result = verdict(synthetic, train, val, config, str(device), seen_unlabelled=seen_unlabelled)
    weights_sha256 = generator_sha256(source)
    if weights_sha256 is not None and config.membership_steps and result.membership:
        result.membership.update(
            attack_weights(Path("data/gan") / fold, weights_sha256, everything, val, config)
        )
    GatedSamples.validate(result.samples)
    with stage_io.atomic_output(Path("data/gate") / fold) as folder:
        unreleasable = reason_not_to_release(source)
        metrics = result.as_json() | {
            "generator_sha256": weights_sha256,
            "releasable": unreleasable is None,
            "not_releasable": unreleasable,
        }
        (folder / "metrics.json").write_text(metrics_text(metrics))
        result.samples.to_parquet(folder / "samples.parquet", index=False)
        if config.readers is not None and review is not None:
            figures = find_figures(review, fold, hash_candidate(source, folder)[1])
            # Nobody is asked to rate what is rejected anyway.
            asked = figures is not None or result.verdict == "accepted"
            reasons = unmet_criteria(config.readers, figures, "gate.readers") if asked else []
            metrics = with_readers(metrics, reasons)
            (folder / "metrics.json").write_text(metrics_text(metrics))
    counts = result.images
    print(
        f"gate: fold {fold}: {metrics['verdict']}, {counts['accepted']} of {counts['n']} images"
        " accepted"
    )
    for reason in metrics["reasons"]:
        print(f"gate: fold {fold}: {reason}")
    for name, ratio in result.uncertain_measures().items():
        print(f"gate: fold {fold}: {name}: within a standard error of its limit: {ratio}")
    for name, why in result.not_measured_without_rejection().items():
        print(f"gate: fold {fold}: {name}: not measured: {why}")
    for name, attack in result.membership.items():
        print(f"gate: fold {fold}: membership attack on {name}: {attack.in_words()}")


def mark_shown(slices: SliceSet, *, without_outlines: bool) -> SliceSet:
    """Add the column that says which slices teach a generator, for the membership attacks."""
    shown = teach_a_generator(slices.table, without_outlines=without_outlines)
    return replace(slices, table=slices.table.assign(**{SHOWN: shown}))


def verdict(
    synthetic: SliceSet,
    train: SliceSet,
    val: SliceSet,
    config: Gate,
    device: str,
    *,
    seen_unlabelled: SliceSet | None = None,
) -> GateResult:
    """Judge the slices; reject them, with the reason, when they cannot be judged."""
    try:
        reference = prepare_reference(
            train, val, config, device=device, seen_unlabelled=seen_unlabelled
        )
        return evaluate(synthetic, reference, config, device=device)
    except CannotJudgeError as error:
        return not_judged_result(synthetic, str(error))


def attack_weights(
    folder: Path, weights_sha256: str, train: SliceSet, val: SliceSet, config: Gate
) -> dict[str, MembershipAttack]:
    """Attack the generator that made the slices; nothing where its weights are not here."""
    device = torch_setup.setup_torch(config.threads)
    generator = generator_attack.read_generator(folder, weights_sha256, device)
    if generator is None:
        return {}
    attack = generator_attack.attack_generator(
        generator, train, val, steps=config.membership_steps, seed=config.seed, device=device
    )
    return {generator_attack.NAME: attack}


def find_figures(review: Review, fold: str, digest: str) -> ReviewFigures | None:
    """Return the figures of the fold's study; None where readers did not see these slices."""
    study = review.folds.get(fold)
    return study.figures if study is not None and study.digest == digest else None


def read_summary(source: Path) -> dict[str, Any]:
    """Read what `generate` says of `data/synthetic/FOLD`; empty where it says nothing."""
    path = source / "summary.json"
    summary: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return summary


def saw_without_outlines(source: Path) -> bool:
    """Return whether training slices without outlines may have taught the generator.

    Nobody knows what a generator from elsewhere saw: perhaps all of them.
    """
    summary = read_summary(source)
    return summary.get("source") == "folder" or bool(summary.get(WITHOUT_OUTLINES))


def generator_sha256(source: Path) -> str | None:
    """Return the SHA-256 of the weights that made `data/synthetic/FOLD`; None for external images.

    The hash ties the verdict to this generator, so that a generator which later replaces it in
    `data/gan/FOLD` does not inherit the verdict.
    """
    digest: str | None = read_summary(source).get("generator_sha256")
    return digest


if __name__ == "__main__":
    run_stage(main)
