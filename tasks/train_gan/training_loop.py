"""A whole training: step, watch, keep the best, write."""

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

from models.dcgan import Architecture
from tasks.params.train_gan import TrainGan
from tasks.stage.errors import InputError
from tasks.train_gan import checkpoint, pretrained_init
from tasks.train_gan.collapse_detection import Row, collapse, nonfinite_metric
from tasks.train_gan.conditions import distribution
from tasks.train_gan.distributed import GO_ON, START_OVER, STOP, Ranks
from tasks.train_gan.dvclive_logger import Curves
from tasks.train_gan.history_columns import COLUMNS
from tasks.train_gan.sample_sheet import SLICES, sample_sheet
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_data import TrainingData
from tasks.train_gan.training_state import TrainingState
from tasks.train_gan.validation_metrics import draw, references, validation_row

FIRST_ROW = 100  # or sooner: a generator is watched from the first hundred steps on
TIMED = (3, 13)  # the steps whose pace tells how long the run will take
SAVE_SECONDS = 15.0  # between checkpoints
COMPARED = (  # between experiments, of the checkpoint that was kept
    "fd_ratio_none", "fd_ratio_tumor", "std_z_none", "std_z_tumor", "mask_missing", "mask_spurious",
)  # fmt: skip


def train(
    asked: TrainGan,
    examples: TrainingData,
    fold: str,
    *,
    out: Path,
    kept: Path,
    ranks: Ranks | None = None,
) -> None:
    """Train, from the checkpoint in `kept` if there is one; write the generator to `out`.

    A run that diverges or stays collapsed starts once more, with the next seed. Of several
    processes this is the first; the others `follow`.

    Raises:
        StageError: when it diverges a second time.
    """
    ranks = ranks or Ranks()
    trainer, progress = resume_or_start(asked, examples, kept, ranks)
    announce(trainer, examples, progress, fold)
    real = references(examples)
    curves = Curves(fold, resume=progress.step > 0)
    bar = tqdm(
        total=asked.steps,
        initial=progress.step,
        desc=f"train_gan@{fold}",
        unit="step",
        mininterval=2,
    )
    saved = time.monotonic()
    over = progress.stop(asked)
    with curves, bar:
        while not over:
            started = time.monotonic()
            trainer.step(progress.step + 1, examples)
            progress.step += 1
            bar.update()
            print_time_estimate(bar)
            late = ranks.count == 1 and progress.out_of_time(
                asked
            )  # the others listen at rows only
            watched = late or is_watched(progress.step, asked)
            if watched:
                row: Row = {"step": progress.step, "event": "", **trainer.means()}
                row["augment"] = float(trainer.adaptive.probability)
                row |= validation_row(trainer, real)
                if fault := nonfinite_metric(row) or progress.lasting_collapse(row, asked):
                    with ranks.ending_together(trainer.device):
                        trainer, progress = restart_with_next_seed(
                            trainer, progress, examples, fault, fold
                        )
                    ranks.broadcast_decision(START_OVER, trainer.device)
                    bar.reset()
                    continue
                progress.record(row, trainer)
                curves.add(row)
                show(bar, row)
            progress.seconds += time.monotonic() - started
            over = progress.stop(asked) if watched else ""
            if over or progress.step % asked.sheet_every == 0:
                save_sheet(trainer, kept, progress.step)
            if watched:
                ranks.broadcast_decision(STOP if over else GO_ON, trainer.device)
            if time.monotonic() - saved > SAVE_SECONDS:
                save(kept, trainer, progress)
                saved = time.monotonic()
    write(out, kept, trainer=trainer, examples=examples, progress=progress, fold=fold)
    checkpoint.remove(kept)


def run_secondary_rank(
    asked: TrainGan, examples: TrainingData, *, kept: Path, ranks: Ranks
) -> None:
    """What every process but the first does: the same steps, for as long as the first says."""
    trainer, progress = resume_or_start(asked, examples, kept, ranks)
    word = STOP if progress.stop(asked) else GO_ON
    while word != STOP:
        trainer.step(progress.step + 1, examples)
        progress.step += 1
        if is_watched(progress.step, asked):
            trainer.means()
            word = ranks.broadcast_decision(GO_ON, trainer.device)
        if word == START_OVER:
            trainer, progress = (
                fresh(with_next_seed(trainer.asked), examples, ranks),
                TrainingState(),
            )
            word = GO_ON


def is_watched(step: int, asked: TrainGan) -> bool:
    """Whether a step gets a row in `history.csv`."""
    return step % asked.watch_every == 0 or step in (FIRST_ROW, asked.steps)


def resume_or_start(
    asked: TrainGan, examples: TrainingData, kept: Path, ranks: Ranks
) -> tuple[Trainer, TrainingState]:
    """A fresh start, or where a killed run of the same kind had come to."""
    found = checkpoint.load(kept)
    ranks.barrier()  # or the first could overwrite or remove what another has not read
    if found is None:
        return fresh(asked, examples, ranks), TrainingState()
    tensors, facts = found
    asked = asked.model_copy(update={"seed": facts["seed"]})
    trainer = Trainer(asked, architecture(asked, examples), examples.train.x.device, ranks)
    trainer.unpack(tensors, facts)
    return trainer, TrainingState.unpack(tensors, facts)


def fresh(asked: TrainGan, examples: TrainingData, ranks: Ranks) -> Trainer:
    """Networks of a seed, or of the earlier training that `start_from` names."""
    trainer = Trainer(asked, architecture(asked, examples), examples.train.x.device, ranks)
    if asked.start_from:
        pretrained_init.load(trainer, Path(asked.start_from), asked.start_sha256)
    train = examples.train
    if train.conditions is not None and examples.scale is not None:
        trainer.set_condition_distribution(
            *distribution(train.conditions, train.labels), examples.scale
        )
    return trainer


def save(kept: Path, trainer: Trainer, progress: TrainingState) -> None:
    """Write a checkpoint."""
    networks, counts = trainer.pack()
    best, facts = progress.pack()
    checkpoint.save(kept, networks | best, counts | facts)


def restart_with_next_seed(
    trainer: Trainer, progress: TrainingState, examples: TrainingData, fault: str, fold: str
) -> tuple[Trainer, TrainingState]:
    """Once more, with the next seed.

    Raises:
        StageError: when that was the second attempt.
    """
    where = f"at step {progress.step}: {fault}"
    if progress.restarted:
        raise InputError(
            f"training failed twice, {progress.restarted}; with the next seed {where}; make"
            " train_gan.learning_rate and train_gan.discriminator_rate smaller, rerun"
        )
    asked = with_next_seed(trainer.asked)
    print(f"train_gan@{fold}: {where}; starting over with seed {asked.seed}", file=sys.stderr)
    again = fresh(asked, examples, trainer.ranks)
    return again, TrainingState(seconds=progress.seconds, restarted=where)


def with_next_seed(asked: TrainGan) -> TrainGan:
    """The params of a second attempt."""
    return asked.model_copy(update={"seed": asked.seed + 1})


def architecture(asked: TrainGan, examples: TrainingData) -> Architecture:
    """The networks that these slices and params ask for."""
    return Architecture(
        size=examples.train.x.shape[-1],
        channels=examples.train.x.shape[1] - 1,
        latent=asked.latent,
        width=asked.width,
        smooth_upsampling=asked.smooth_upsampling,
        excitation=asked.excitation,
        discriminator_norm=asked.discriminator_norm,
        minibatch_stddev=asked.minibatch_stddev,
        projection=asked.projection,
        conditions=tuple(asked.conditions),
        pretrained_features=asked.pretrained_features,
        masked=examples.train.masked,
    )


def announce(trainer: Trainer, examples: TrainingData, progress: TrainingState, fold: str) -> None:
    """Say what is about to happen."""
    asked = trainer.asked
    none, tumor = (len(rows) for rows in examples.train.rows)
    budget = f" within {asked.max_minutes:g} minutes" if asked.max_minutes else ""
    where = trainer.device.type + (f" x {asked.processes}" if asked.processes > 1 else "")
    print(
        f"train_gan@{fold}: {asked.steps} steps{budget} of {asked.batch} slices, recipe"
        f" {asked.recipe}, {trainer.precision} on {where}; {tumor} tumour and {none} other training"
        f" slices of {examples.train.patients} patients, watched on {examples.val.patients}"
        f" validation patients{f'; resuming at step {progress.step}' if progress.step else ''}",
        file=sys.stderr,
    )
    if asked.pretrained_features:
        print(
            f"train_gan@{fold}: the discriminator sees through the features that the Fréchet ratio"
            " is measured on, which flatters the ratio; look at the gate's other figures too",
            file=sys.stderr,
        )


def print_time_estimate(bar: "tqdm[Any]") -> None:
    """After the first few steps, say how long the run will take."""
    first, last = (bar.initial + step for step in TIMED)
    if bar.n == first:
        bar.start_t = time.time()  # tqdm's own estimate starts with the slow first step
    if bar.n == last and bar.total:
        pace = (time.time() - bar.start_t) / (last - first)
        left = pace * (bar.total - bar.n)
        bar.write(f"{bar.desc}: {pace * 1e3:.0f} ms a step, about {left:.0f} s to go", sys.stderr)


def show(bar: "tqdm[Any]", row: Row) -> None:
    """What the progress bar says of a row."""
    bar.set_postfix(
        fd=f"{float(row['fd_ratio_none']):.1f}/{float(row['fd_ratio_tumor']):.1f}",
        std_z=f"{float(row['std_z_none']):.2f}/{float(row['std_z_tumor']):.2f}",
    )


def save_sheet(trainer: Trainer, kept: Path, step: int) -> None:
    """Draw the EMA generator's sample sheet; it stays beside the checkpoint until the end."""
    sampler, latent = trainer.sampler(), trainer.asked.latent
    none, tumor = (
        draw(sampler, label, SLICES, latent=latent, device=trainer.device) for label in (0, 1)
    )
    (kept / "sheets").mkdir(parents=True, exist_ok=True)
    sample_sheet(none, tumor).save(kept / "sheets" / f"step_{step:06d}.png")


def write(
    out: Path,
    kept: Path,
    *,
    trainer: Trainer,
    examples: TrainingData,
    progress: TrainingState,
    fold: str,
) -> None:
    """Write the best weights, what is needed to rebuild the network, the history, the sheets.

    A collapsed generator is written all the same, and says so: the gate is the judge.
    """
    reason = collapse(progress.best_row, loss=trainer.asked.loss)
    if reason:
        print(f"train_gan@{fold}: the generator collapsed: {reason}", file=sys.stderr)
    weights = {name: value.contiguous() for name, value in progress.best.items()}
    save_file(weights, out / "generator.safetensors")
    pretrained_init.save(out, trainer)
    none, tumor = (len(rows) for rows in examples.train.rows)
    config = {
        "kind": "dcgan",
        "architecture": asdict(trainer.architecture),
        "recipe": trainer.asked.recipe,
        "seed": trainer.asked.seed,
        "restarted": progress.restarted or None,
        "state": "collapsed" if reason else "ok",
        "reason": reason or None,
        "started_from": trainer.asked.start_sha256 or None,
        "steps": progress.step,
        "stopped_by": progress.stop(trainer.asked),
        "best_step": progress.best_row["step"],
        "precision": trainer.precision,
        "device": trainer.device.type,
        "training_slices": {"none": none, "tumor": tumor},
        "training_patients": examples.train.patients,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out / "metrics.json").write_text(json.dumps(metrics(progress.best_row), indent=2) + "\n")
    table = pd.DataFrame(progress.history, columns=list(COLUMNS))
    table.to_csv(out / "history.csv", index=False, float_format="%.5g")
    (out / "sheets").mkdir()
    for path in sorted((kept / "sheets").glob("*.png")):
        if int(path.stem.removeprefix("step_")) <= progress.step:
            shutil.copyfile(path, out / "sheets" / path.name)


def metrics(kept: Row) -> dict[str, float]:
    """What `dvc exp show` and `dvc metrics diff` compare: the row of the checkpoint kept.

    A figure that could not be measured is left out: NaN is no JSON.
    """
    known = {name: float(kept[name]) for name in COMPARED}
    rounded = {name: float(f"{value:.5g}") for name, value in known.items() if math.isfinite(value)}
    return {"step": int(kept["step"]), **rounded}
