"""Run a whole training: step, validate, keep the best weights, write the outputs."""

import json
import math
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import save_file
from tqdm import tqdm

from tasks.common.generator_slices import WITHOUT_OUTLINES
from tasks.params.train_gan import TrainGan
from tasks.train_gan import checkpoint, pretrained_init
from tasks.train_gan.collapse_detection import HistoryRow, collapse_reason, nonfinite_metric
from tasks.train_gan.distributed import CONTINUE, RESTART, STOP, Ranks
from tasks.train_gan.history_columns import history_columns
from tasks.train_gan.live_curves import open_curves
from tasks.train_gan.resume import (
    new_trainer,
    restart_with_next_seed,
    resume_or_start,
    save_checkpoint,
    with_next_seed,
)
from tasks.train_gan.sample_sheet import SLICES, sample_sheet
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_data import TrainingData
from tasks.train_gan.training_state import TrainingState
from tasks.train_gan.validation_metrics import sample_slices, validation_references, validation_row

FIRST_VALIDATION_STEP = 100  # or sooner, so that an early divergence is seen
TIMED_STEPS = (3, 13)  # the steps whose pace tells how long the run will take
SAVE_SECONDS = 15.0  # between checkpoints
METRICS = (  # of the best checkpoint, to compare experiments
    "fd_ratio_none", "fd_ratio_tumor", "std_z_none", "std_z_tumor", "mask_missing", "mask_spurious",
)  # fmt: skip


def train(
    config: TrainGan,
    examples: TrainingData,
    fold: str,
    *,
    out: Path,
    checkpoint_folder: Path,
    ranks: Ranks | None = None,
) -> None:
    """Train, from the checkpoint in `checkpoint_folder` if there is one, and write to `out`.

    A run that diverges or stays collapsed starts once more, with the next seed. Of several
    processes this is the first; the others run `run_secondary_rank`.

    Raises:
        InputError: when it diverges a second time.
    """
    ranks = ranks or Ranks()
    trainer, state = resume_or_start(config, examples, checkpoint_folder, ranks)
    print_start(trainer, examples, state, fold)
    references = validation_references(examples)
    curves = open_curves(fold, resume=state.step > 0)
    bar = tqdm(
        total=config.steps,
        initial=state.step,
        desc=f"train_gan@{fold}",
        unit="step",
        mininterval=2,
    )
    saved = time.monotonic()
    stop_reason = state.stop_reason(config)
    with curves, bar:
        while not stop_reason:
            started = time.monotonic()
            trainer.step(state.step + 1, examples)
            state.step += 1
            bar.update()
            print_time_estimate(bar)
            # The other processes listen at validation steps only.
            out_of_time = ranks.world_size == 1 and state.out_of_time(config)
            validated = out_of_time or is_validation_step(state.step, config)
            if validated:
                row: HistoryRow = {"step": state.step, "event": "", **trainer.mean_losses()}
                row["augment"] = float(trainer.adaptive.probability)
                row |= validation_row(trainer, references)
                if fault := nonfinite_metric(row) or state.lasting_collapse(row, config):
                    with ranks.stop_all_on_error(trainer.device):
                        trainer, state = restart_with_next_seed(
                            trainer, state, examples, fault, fold
                        )
                    ranks.broadcast_decision(RESTART, trainer.device)
                    bar.reset()
                    continue
                state.add_row(row, trainer)
                curves.log_row(row)
                show_on_progress_bar(bar, row)
            state.seconds += time.monotonic() - started
            stop_reason = state.stop_reason(config) if validated else ""
            if stop_reason or state.step % config.sheet_every == 0:
                save_sheet(trainer, checkpoint_folder, state.step)
            if validated:
                ranks.broadcast_decision(STOP if stop_reason else CONTINUE, trainer.device)
            if time.monotonic() - saved > SAVE_SECONDS:
                save_checkpoint(checkpoint_folder, trainer, state)
                saved = time.monotonic()
    write_outputs(
        out, checkpoint_folder, trainer=trainer, examples=examples, state=state, fold=fold
    )
    checkpoint.remove_checkpoint(checkpoint_folder)


def run_secondary_rank(
    config: TrainGan, examples: TrainingData, *, checkpoint_folder: Path, ranks: Ranks
) -> None:
    """Run the steps of every process but the first, until the first one says to stop."""
    trainer, state = resume_or_start(config, examples, checkpoint_folder, ranks)
    decision = STOP if state.stop_reason(config) else CONTINUE
    while decision != STOP:
        trainer.step(state.step + 1, examples)
        state.step += 1
        if is_validation_step(state.step, config):
            trainer.mean_losses()
            decision = ranks.broadcast_decision(CONTINUE, trainer.device)
        if decision == RESTART:
            trainer, state = (
                new_trainer(with_next_seed(trainer.config), examples, ranks),
                TrainingState(),
            )
            decision = CONTINUE


def is_validation_step(step: int, config: TrainGan) -> bool:
    """Return whether a step gets a row in `history.csv`."""
    return step % config.watch_every == 0 or step in (FIRST_VALIDATION_STEP, config.steps)


def print_start(trainer: Trainer, examples: TrainingData, state: TrainingState, fold: str) -> None:
    """Print what this training is about to do."""
    config = trainer.config
    none, tumor = (len(rows) for rows in examples.train.rows_by_label)
    budget = f" within {config.max_minutes:g} minutes" if config.max_minutes else ""
    device = trainer.device.type + (f" x {config.processes}" if config.processes > 1 else "")
    others = examples.without_outlines
    images = f" and {len(others.x)} without outlines of {len(others.subjects)}" if others else ""
    resuming = f"; resuming at step {state.step}" if state.step else ""
    print(
        f"train_gan@{fold}: {config.steps} steps{budget} of {config.batch} slices, recipe"
        f" {config.recipe}, {trainer.precision} on {device}; {tumor} tumour and {none} other"
        f" training slices of {len(examples.train.subjects)} patients{images}, watched on"
        f" {len(examples.val.subjects)} validation patients{resuming}",
        file=sys.stderr,
    )
    if config.pretrained_features:
        print(
            f"train_gan@{fold}: the discriminator sees through the features that the Fréchet ratio"
            " is measured on, which flatters the ratio; look at the gate's other figures too",
            file=sys.stderr,
        )


def print_time_estimate(bar: "tqdm[Any]") -> None:
    """Print how long the run will take, after its first few steps."""
    first, last = (bar.initial + step for step in TIMED_STEPS)
    if bar.n == first:
        bar.start_t = time.time()  # tqdm's own estimate starts with the slow first step
    if bar.n == last and bar.total:
        pace = (time.time() - bar.start_t) / (last - first)
        left = pace * (bar.total - bar.n)
        bar.write(f"{bar.desc}: {pace * 1e3:.0f} ms a step, about {left:.0f} s to go", sys.stderr)


def show_on_progress_bar(bar: "tqdm[Any]", row: HistoryRow) -> None:
    """Show the main metrics of a row on the progress bar."""
    bar.set_postfix(
        fd=f"{float(row['fd_ratio_none']):.1f}/{float(row['fd_ratio_tumor']):.1f}",
        std_z=f"{float(row['std_z_none']):.2f}/{float(row['std_z_tumor']):.2f}",
    )


def save_sheet(trainer: Trainer, checkpoint_folder: Path, step: int) -> None:
    """Save the EMA generator's sample sheet beside the checkpoint, until the run ends."""
    sampler, latent = trainer.recalibrate_ema(), trainer.config.latent
    none, tumor = (
        sample_slices(sampler, label, SLICES, latent=latent, device=trainer.device)
        for label in (0, 1)
    )
    (checkpoint_folder / "sheets").mkdir(parents=True, exist_ok=True)
    sample_sheet(none, tumor).save(checkpoint_folder / "sheets" / f"step_{step:06d}.png")


def write_outputs(
    out: Path,
    checkpoint_folder: Path,
    *,
    trainer: Trainer,
    examples: TrainingData,
    state: TrainingState,
    fold: str,
) -> None:
    """Write the best weights, the config that rebuilds the network, the history and the sheets.

    A collapsed generator is written and marked as such: the gate judges it.
    """
    reason = collapse_reason(state.best_row, loss=trainer.config.loss)
    if reason:
        print(f"train_gan@{fold}: the generator collapsed: {reason}", file=sys.stderr)
    weights = {name: value.contiguous() for name, value in state.best_weights.items()}
    save_file(weights, out / "generator.safetensors")
    pretrained_init.save_networks(out, trainer)
    none, tumor = (len(rows) for rows in examples.train.rows_by_label)
    config = {
        "kind": "dcgan",
        "architecture": asdict(trainer.architecture),
        "recipe": trainer.config.recipe,
        "seed": trainer.config.seed,
        "restarted": state.restarted or None,
        "state": "collapsed" if reason else "ok",
        "reason": reason or None,
        "started_from": trainer.config.start_sha256 or None,
        "steps": state.step,
        "stopped_by": state.stop_reason(trainer.config),
        "best_step": state.best_row["step"],
        "precision": trainer.precision,
        "device": trainer.device.type,
        "training_slices": {"none": none, "tumor": tumor},
        "training_patients": examples.patient_count,
    }
    if (images := examples.without_outlines) is not None:
        config[WITHOUT_OUTLINES] = {"slices": len(images.x), "patients": len(images.subjects)}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out / "metrics.json").write_text(json.dumps(metrics_of_best(state.best_row), indent=2) + "\n")
    table = pd.DataFrame(state.history, columns=history_columns(state.best_row))
    table.to_csv(out / "history.csv", index=False, float_format="%.5g")
    (out / "sheets").mkdir()
    for path in sorted((checkpoint_folder / "sheets").glob("*.png")):
        if int(path.stem.removeprefix("step_")) <= state.step:
            shutil.copyfile(path, out / "sheets" / path.name)


def metrics_of_best(best_row: HistoryRow) -> dict[str, float]:
    """Return the metrics of the best checkpoint for `dvc exp show` and `dvc metrics diff`.

    A metric that could not be measured is left out: NaN is no JSON.
    """
    metrics = {name: float(best_row[name]) for name in METRICS}
    rounded = {
        name: float(f"{value:.5g}") for name, value in metrics.items() if math.isfinite(value)
    }
    return {"step": int(best_row["step"]), **rounded}
