"""Train recipes beside each other on the same slices and print the figures of each, in Markdown.

    python -m benchmarks.compare_recipes --slices data/slices --out /tmp/recipes --plan show
    python -m benchmarks.compare_recipes --slices data/slices --out /tmp/recipes --plan parts \
        --patients 20 --start PHANTOM/data/gan/0/networks.safetensors

A trial is a folder under `--out` in which `python -m tasks.train_gan 0` ran with its own
params.yaml; a trial that has its result is not run again, so that an interrupted plan resumes.
`--patients 20` keeps that many of the training and validation patients, another draw for
each seed, the same for every recipe.

Trials are evaluated on the test patients, who took no part in training or in choosing a
checkpoint: n generated slices of each label (n: as many as there are test slices of it, at most
400) against theirs. A ratio divides by the same figure for n slices of all training patients, so
1 is as near as other patients come, whatever the trial trained on. `SWD` uses no network: where a
discriminator uses the Fréchet distance's own features it is the fairer figure.
`mask size` and `mask place` are such ratios too, of log areas and of centres; `outside` counts a
mask's pixels outside the head, `disagree` the slices whose mask contradicts their label.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass
from scipy.stats import spearmanr, wasserstein_distance

from benchmarks.network_free_measures import mean_pair_ssim, sliced_wasserstein
from models.dcgan import Generator
from tasks.common.slice_set import SliceSet, read_slice_set, read_slices, write_slice_set
from tasks.generate.load_generator import load_generator
from tasks.generate.mask_cleanup import head_mask
from tasks.generate.sample_generator import (
    BATCH,
    GeneratedSlice,
    SamplingRequest,
    sample_generator,
)
from tasks.measures.features.feature_extraction import features
from tasks.measures.features.frechet import frechet_distance

FOLD = "0"
ROOT = Path(__file__).parents[1]
NAN = float("nan")
MAX_COMPARED = 400  # slices of a label that are compared
SEED = 5
NO_AUGMENT = {"brightness": 0, "contrast": 0, "translation": 0, "cutout": 0}

# What each trial changes in `train_gan`; the first of a plan is what the others stand beside.
PLANS: dict[str, dict[str, dict[str, Any]]] = {
    "show": {"small_data": {}, "paper": {"recipe": "paper"}},
    "parts": {
        "small_data": {},
        "no minibatch stddev": {"minibatch_stddev": False},
        "no R1": {"r1_gamma": 0.0},
        "no DiffAugment": {"diffaugment": NO_AUGMENT},
        "crisp masks": {"soften": 1.0},
        "no EMA": {"ema_half_life": 0},
        "checkerboard upsampling": {"smooth_upsampling": False},
        "no decay": {"decay": 0.0},
        "excitation": {"excitation": True},
        "label as planes": {"projection": False},
        "L1 to label mean": {"l1": 1.0},
        "adaptive augmentation": {"ada_target": 0.6},
        "adaptive augmentation to .3": {"ada_target": 0.3},
        "bf16": {"precision": "bf16"},
        "width 32": {"width": 32},
        "area and position": {"conditions": ["area", "position"]},
        "projected": {"recipe": "projected"},
        "pre-trained": {"start_from": "--start"},
    },
}


def main() -> None:
    """Run what is missing of a plan, then print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", choices=PLANS, default="show")
    parser.add_argument("--only", nargs="*", help="names of the plan's trials; default all")
    parser.add_argument("--patients", type=int, nargs="*", default=[0], help="0: all of them")
    parser.add_argument("--seeds", type=int, nargs="*", default=[3])
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--start", type=Path, help="networks.safetensors for the pre-trained trial")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = {name: PLANS[options.plan][name] for name in options.only or PLANS[options.plan]}
    rows = []
    for seed in options.seeds:
        for patients in options.patients:
            for name, settings in plan.items():
                changes = start_settings(options.start) if "start_from" in settings else settings
                trial_folder = (
                    options.out / f"{name.replace(' ', '_')}-n{patients}-t{options.steps}-s{seed}"
                )
                common = {"seed": seed, "threads": 1, "precision": "fp32", "steps": options.steps,
                          "watch_every": 300, "sheet_every": options.steps}  # fmt: skip
                figures = trial_figures(
                    trial_folder, options.slices, common | changes, patients=patients
                )
                rows.append({"trial": name, "patients": patients, "seed": seed, **figures})
    print_tables(pd.DataFrame(rows))
    if options.plan == "show":
        print("\nHow much less of the excess over 1 `small_data` leaves than `paper`, per cent:\n")
        print(to_markdown(excess_reduction(pd.DataFrame(rows))))


def start_settings(path: Path | None) -> dict[str, Any]:
    """Return the settings of a trial that starts from the networks of a file."""
    if path is None:
        raise SystemExit("the pre-trained trial needs --start FILE; --only leaves it out")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"start_from": str(path.resolve()), "start_sha256": digest}


def trial_figures(
    trial_folder: Path, slices: Path, settings: dict[str, Any], *, patients: int
) -> dict[str, float]:
    """Return a trial's figures, from its `result.json` or from a run."""
    result_path = trial_folder / "result.json"
    if not result_path.exists():
        if not (trial_folder / "data/gan").exists():
            prepare_trial(trial_folder, slices, settings, patients=patients)
        seconds_path = trial_folder / "cpu_seconds"
        if not seconds_path.exists():
            seconds_path.write_text(str(train_trial(trial_folder)))
        figures = evaluate_trial(trial_folder, slices) | {"CPU s": float(seconds_path.read_text())}
        result_path.write_text(json.dumps(figures, indent=2))
        print(f"{trial_folder.name}: {figures}", file=sys.stderr, flush=True)
    saved: dict[str, float] = json.loads(result_path.read_text())
    return saved


def prepare_trial(
    trial_folder: Path, slices: Path, settings: dict[str, Any], *, patients: int
) -> None:
    """Write `params.yaml` and `data/slices`, with some of the patients only where requested."""
    folder = trial_folder / "data/slices"
    folder.mkdir(parents=True, exist_ok=True)
    slice_set = read_slice_set(slices, "slices.parquet")
    chosen = slice_set.select(select_patients(slice_set.table, patients, seed=settings["seed"]))
    write_slice_set(folder, chosen.images, chosen.masks)
    chosen.table.assign(row=range(len(chosen))).to_parquet(folder / "slices.parquet", index=False)
    tree = {
        "slices": {"folds": [FOLD]},
        "synthetic": {"source": "data/gan"},
        "train_gan": settings,
    }
    (trial_folder / "params.yaml").write_text(yaml.safe_dump(tree))


def select_patients(table: pd.DataFrame, patients: int, *, seed: int) -> NDArray[np.bool_]:
    """Select rows of that many training and validation patients, in the proportion of the two."""
    partition_of = table.groupby("subject")[f"partition_{FOLD}"].first()
    pools = {name: sorted(partition_of.index[partition_of == name]) for name in ("train", "val")}
    total = sum(map(len, pools.values()))
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for pool in pools.values():
        n = round((patients or total) * len(pool) / total)
        chosen |= {str(name) for name in rng.permutation(pool)[:n]}
    return table["subject"].isin(chosen).to_numpy()


def train_trial(trial_folder: Path) -> float:
    """Run the stage; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
    }  # fmt: skip
    with (trial_folder / "log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "tasks.train_gan", FOLD], cwd=trial_folder, env=environment,
            stderr=log, check=True,
        )  # fmt: skip
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def evaluate_trial(trial_folder: Path, slices: Path) -> dict[str, float]:
    """Compute the figures of a trained generator against the test patients."""
    device = torch.device("cpu")
    train_set, test_set = (read_slices(FOLD, side, slices) for side in ("train", "test"))
    generator = load_generator(trial_folder / "data/gan" / FOLD, device)
    request = SamplingRequest(count=2 * MAX_COMPARED, seed=SEED, tumor_share=0.5,
                 min_island_px=3, min_tumor_px=5, attempts=8)  # fmt: skip
    generated = list(sample_generator(generator, request, device))
    figures: dict[str, float] = {}
    for label, name in ((0, "none"), (1, "tumour")):
        images = np.array(
            [
                generated_slice.image
                for generated_slice in generated
                if generated_slice.label == label
            ],
            np.float32,
        )
        real, other = images_of_label(test_set, label), images_of_label(train_set, label)
        n = min(MAX_COMPARED, len(real), len(other))
        if len(images) < n:  # a generator whose masks contradict its labels
            figures |= dict.fromkeys((f"{m} {name}" for m in ("FD", "SWD", "std z", "SSIM")), NAN)
            continue
        fake, real, other = images[:n], evenly_spaced(real, n), evenly_spaced(other, n)
        test_features = features(real)
        figures[f"FD {name}"] = frechet_distance(features(fake), test_features) / frechet_distance(
            features(other), test_features
        )
        figures[f"SWD {name}"] = sliced_wasserstein(fake, real) / sliced_wasserstein(other, real)
        figures[f"std z {name}"] = float(fake.std(0).mean() / other.std(0).mean())
        figures[f"SSIM {name}"] = mean_pair_ssim(fake) / mean_pair_ssim(other)
    figures |= evaluate_masks(generated, train_set, test_set)
    if "area" in generator.architecture.conditions:
        figures["area follows"] = condition_fidelity(generator, train_set)
    figures["redrawn"] = float(
        np.mean([generated_slice.redraws > 0 for generated_slice in generated])
    )
    figures["short"] = 1 - len(generated) / request.count
    return figures


def evaluate_masks(
    generated: list[GeneratedSlice], train: SliceSet, test: SliceSet
) -> dict[str, float]:
    """Compare size and place of generated masks with the test patients', and check them."""
    tumours = [sample for sample in generated if sample.label == 1]
    if not tumours:
        return dict.fromkeys(("mask size", "mask place", "outside", "disagree"), NAN)
    fake = area_and_centre(np.stack([sample.mask for sample in tumours]))
    real, other = (
        area_and_centre(side.masks[(side.table["label"] == 1).to_numpy()]) for side in (test, train)
    )
    far_apart = [wasserstein_distance(other[:, place], real[:, place]) for place in range(3)]
    far = [wasserstein_distance(fake[:, place], real[:, place]) for place in range(3)]
    outside = [
        float((sample.mask > 0)[~head_mask(sample.image.astype(np.float32))].sum())
        for sample in tumours
    ]
    return {
        "mask size": far[0] / far_apart[0],
        "mask place": sum(far[1:]) / sum(far_apart[1:]),
        "outside": float(np.mean(outside)),
        "disagree": float(
            np.mean([bool(sample.mask.any()) != bool(sample.label) for sample in generated])
        ),
    }


def condition_fidelity(generator: Generator, train: SliceSet) -> float:
    """Compute Spearman's correlation of requested and generated areas at three percentiles.

    The percentiles are the tenth, the median and the ninetieth, with the same z for each, whatever
    its mask.
    """
    tumours = train.table.loc[train.table["label"] == 1, "tumor_area_mm2"]
    requested, generated = [], []
    for area in tumours.quantile([0.1, 0.5, 0.9]):
        request = SamplingRequest(count=BATCH, seed=SEED, tumor_share=1.0, min_island_px=3,
                    min_tumor_px=0, attempts=1, tumor_area_mm2=float(area))  # fmt: skip
        masks = [
            generated_slice.mask
            for generated_slice in sample_generator(generator, request, torch.device("cpu"))
        ]
        requested += [float(area)] * len(masks)
        generated += [float(mask.sum()) for mask in masks]
    return float(spearmanr(requested, generated).statistic)


def area_and_centre(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute log area and centre (n,3) of masks that are not empty."""
    return np.array([[np.log(mask.sum()), *center_of_mass(mask)] for mask in masks if mask.any()])


def images_of_label(slices: SliceSet, label: int) -> NDArray[np.float32]:
    """Select the images of one label."""
    return slices.images[(slices.table["label"] == label).to_numpy()]


def evenly_spaced(images: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Select n of the slices, evenly spaced over the patients."""
    return images[np.linspace(0, len(images) - 1, n).round().astype(int)]


def print_tables(table: pd.DataFrame) -> None:
    """Print every run, then the mean over seeds, as Markdown."""
    print(to_markdown(table))
    if table["seed"].nunique() > 1:
        means = table.groupby(["trial", "patients"], sort=False).mean(numeric_only=True)
        print("\nMeans over seeds:\n")
        print(to_markdown(means.drop(columns="seed").reset_index()))


def excess_reduction(table: pd.DataFrame) -> pd.DataFrame:
    """Compute the share by which `small_data` reduces the Fréchet distance's excess over real."""
    by_recipe = {
        name: table[table["trial"] == name].set_index(["patients", "seed"])[
            ["FD none", "FD tumour"]
        ]
        for name in ("small_data", "paper")
    }
    reduction = 100 * (1 - (by_recipe["small_data"] - 1) / (by_recipe["paper"] - 1))
    return reduction.reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """Format a table in Markdown, figures to three digits."""
    cells = [
        [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.itertuples(index=False)
    ]
    lines = [list(map(str, table.columns)), ["---"] * table.shape[1], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
