"""A whole training: step, watch, keep the best, write."""

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from dvclive import Live
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from models.dcgan import Architecture
from tasks.params.train_gan import TrainGan
from tasks.train_gan.examples import Examples
from tasks.train_gan.history import COLUMNS
from tasks.train_gan.sheet import SLICES, sheet
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.verdict import Row, check_finite, collapse, merit
from tasks.train_gan.watch import draw, measure, references

TIMED = (3, 13)  # the steps whose pace tells how long the run will take


@dataclass
class Progress:
    """What a training leaves behind besides its networks."""

    history: list[Row] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_row: Row = field(default_factory=dict)

    def record(self, row: Row, trainer: Trainer) -> None:
        """Add a row, and keep the EMA weights when none were better.

        Raises:
            StageError: when the losses are no longer numbers.
        """
        check_finite(row)
        if merit(row) <= merit(self.best_row):
            row["event"], self.best_row = "best", row
            weights = trainer.ema.state_dict()
            self.best = {name: value.to("cpu", copy=True) for name, value in weights.items()}
        self.history.append(row)


def train(asked: TrainGan, examples: Examples, fold: str, out: Path) -> None:
    """Train to the last step and write `generator.safetensors` and its companions to `out`.

    Raises:
        StageError: when the losses are no longer numbers.
    """
    trainer = Trainer(asked, architecture(asked, examples), examples.train.x.device)
    real = references(examples)
    progress = Progress()
    (out / "sheets").mkdir()
    announce(asked, examples, fold, trainer)
    # Curves for whoever watches now; history.csv is the record.
    live = Live(dir=f"dvclive/train_gan-{fold}", save_dvc_exp=False, dvcyaml=False)
    with live, tqdm(total=asked.steps, desc=f"train_gan@{fold}", unit="step", mininterval=2) as bar:
        for number in range(1, asked.steps + 1):
            trainer.step(number, examples)
            bar.update()
            tell_pace(bar, number)
            last = number == asked.steps
            if number % asked.watch_every == 0 or last:
                row: Row = {"step": number, "event": "", **trainer.means()}
                row |= measure(trainer, real)
                progress.record(row, trainer)
                show(live, bar, row)
            if number % asked.sheet_every == 0 or last:
                samples(trainer).save(out / "sheets" / f"step_{number:06d}.png")
    write(out, trainer=trainer, examples=examples, progress=progress, fold=fold)


def architecture(asked: TrainGan, examples: Examples) -> Architecture:
    """The networks that these slices and params ask for."""
    return Architecture(
        size=examples.train.x.shape[-1],
        channels=examples.train.x.shape[1] - 1,
        latent=asked.latent,
        width=asked.width,
        excitation=asked.excitation,
        discriminator_norm=asked.discriminator_norm,
        minibatch_stddev=asked.minibatch_stddev,
        projection=asked.projection,
    )


def announce(asked: TrainGan, examples: Examples, fold: str, trainer: Trainer) -> None:
    """Say what is about to happen."""
    none, tumor = (len(rows) for rows in examples.train.rows)
    print(
        f"train_gan@{fold}: {asked.steps} steps of {asked.batch} slices, recipe {asked.recipe},"
        f" {'bf16' if trainer.bf16 else 'fp32'} on {trainer.device.type}; {tumor} tumour and"
        f" {none} other training slices of {examples.train.patients} patients, watched on"
        f" {examples.val.patients} validation patients",
        file=sys.stderr,
    )


def tell_pace(bar: "tqdm[Any]", number: int) -> None:
    """After the first few steps, say how long the run will take."""
    first, last = TIMED
    if number == first:
        bar.start_t = time.time()  # tqdm's own estimate starts with the slow first step
    if number == last and bar.total:
        pace = (time.time() - bar.start_t) / (last - first)
        left = pace * (bar.total - number)
        bar.write(f"{bar.desc}: {pace * 1e3:.0f} ms a step, about {left:.0f} s to go", sys.stderr)


def show(live: Live, bar: "tqdm[Any]", row: Row) -> None:
    """Pass a row on to DVCLive and to the progress bar."""
    for name, value in row.items():
        if isinstance(value, float):
            live.log_metric(name, value, timestamp=False)
    live.step = int(row["step"])
    live.next_step()
    bar.set_postfix(
        fd=f"{float(row['fd_ratio_none']):.1f}/{float(row['fd_ratio_tumor']):.1f}",
        std_z=f"{float(row['std_z_none']):.2f}/{float(row['std_z_tumor']):.2f}",
    )


def samples(trainer: Trainer) -> Image.Image:
    """The sample sheet of the EMA generator as it is now."""
    sampler, latent = trainer.sampler(), trainer.asked.latent
    none, tumor = (
        draw(sampler, label, SLICES, latent=latent, device=trainer.device) for label in (0, 1)
    )
    return sheet(none, tumor)


def write(
    out: Path, *, trainer: Trainer, examples: Examples, progress: Progress, fold: str
) -> None:
    """Write the best weights, what is needed to rebuild the network, and the history.

    A collapsed generator is written all the same, and says so: the gate is the judge.
    """
    reason = collapse(progress.best_row)
    if reason:
        print(f"train_gan@{fold}: the generator collapsed: {reason}", file=sys.stderr)
        progress.best_row["event"] = f"best, collapsed: {reason}"
    weights = {name: value.contiguous() for name, value in progress.best.items()}
    save_file(weights, out / "generator.safetensors")
    config = {
        "kind": "dcgan",
        "architecture": asdict(trainer.architecture),
        "recipe": trainer.asked.recipe,
        "state": "collapsed" if reason else "ok",
        "reason": reason or None,
        "steps": trainer.asked.steps,
        "best_step": progress.best_row["step"],
        "precision": "bf16" if trainer.bf16 else "fp32",
        "device": trainer.device.type,
        "training_slices": {
            "none": len(examples.train.rows[0]),
            "tumor": len(examples.train.rows[1]),
        },
        "training_patients": examples.train.patients,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    table = pd.DataFrame(progress.history, columns=list(COLUMNS))
    table.to_csv(out / "history.csv", index=False, float_format="%.5g")
