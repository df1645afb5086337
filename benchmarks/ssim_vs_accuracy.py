"""Test whether a higher SSIM goes with a higher accuracy, on a generator's own checkpoints.

    python -m benchmarks.ssim_vs_accuracy --slices data/slices --out DIR \\
        --steps 100 200 400 800 [GAN ...]

Reads slices of one fold and generators (`data/gan/FOLD` folders); `--steps` trains one more, with
the recipe of `params.yaml`, and keeps it at each of these steps. Of every generator, 400 slices
are sampled. SSIM is that with the nearest real slice, of training and of validation patients; the
accuracy is that of classifiers which saw these slices alone, on validation patients. Results stay
in DIR, a file a generator: a later run continues.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.stats import norm, spearmanr
from sklearn.metrics import accuracy_score, roc_auc_score

from models.classifier import build_residual_classifier
from tasks import params
from tasks.common.slice_set import SliceSet, read_slices
from tasks.generate.load_generator import load_generator
from tasks.generate.sample_generator import SamplingRequest, sample_generator
from tasks.measures.anatomy.body_mask import body_masks
from tasks.measures.features.feature_extraction import features
from tasks.measures.features.frechet import frechet_distance
from tasks.measures.similarity import ncc_search
from tasks.measures.similarity.ssim_search import nearest_ssim
from tasks.params.train_gan import TrainGan

REQUEST = SamplingRequest(
    count=400, seed=5, tumor_share=0.5, min_island_px=3, min_tumor_px=5, attempts=8
)
SEEDS, STEPS, BATCH, RATE = (0, 1, 2), 120, 32, 3e-3  # of the classifiers
COLUMNS = ("ssim_train", "ssim_val", "frechet")


def main() -> None:
    """Measure the generators that are not measured yet, then print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("generators", nargs="*", type=Path)
    parser.add_argument("--slices", type=Path, required=True)
    parser.add_argument("--fold", default="0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, val = (read_slices(options.fold, name, options.slices) for name in ("train", "val"))
    options.out.mkdir(parents=True, exist_ok=True)
    if any(not (options.out / f"step_{step}").exists() for step in options.steps):
        for folder in train_snapshots(train, val, sorted(options.steps), options.out):
            print(folder, flush=True)
    folders = [*(options.out / f"step_{step}" for step in options.steps), *options.generators]
    rows = []
    for index, folder in enumerate(folders):
        result_path = options.out / f"{index}-{folder.name}.json"
        if not result_path.exists():
            result_path.write_text(json.dumps(measure_generator(folder, train, val)))
            print(result_path.read_text(), flush=True)
        rows.append(json.loads(result_path.read_text()))
    print_tables(pd.DataFrame(rows))


def train_snapshots(train: SliceSet, val: SliceSet, steps: list[int], out: Path) -> Iterator[Path]:
    """Train a generator and save it at each of `steps`, as `data/gan/FOLD` does."""
    from tasks.train_gan.distributed import Ranks
    from tasks.train_gan.resume import new_trainer
    from tasks.train_gan.training_data import to_device

    config = params.read_section(TrainGan).model_copy(update={"threads": 1, "steps": steps[-1]})
    examples = to_device(
        train,
        val,
        mask_peak=config.soften,
        device=torch.device("cpu"),
        conditions=config.conditions,
    )
    trainer = new_trainer(config, examples, Ranks())
    for step in range(1, steps[-1] + 1):
        trainer.step(step, examples)
        if step in steps:
            folder = out / f"step_{step}"
            folder.mkdir()
            weights = trainer.recalibrate_ema().state_dict()
            save_file(
                {name: value.contiguous() for name, value in weights.items()},
                folder / "generator.safetensors",
            )
            metadata = {"kind": "dcgan", "architecture": asdict(trainer.architecture),
                      "recipe": config.recipe, "best_step": step}  # fmt: skip
            (folder / "config.json").write_text(json.dumps(metadata))
            yield folder


def measure_generator(folder: Path, train: SliceSet, val: SliceSet) -> dict[str, float | str]:
    """Compute SSIM with the nearest real slices, Fréchet distance, and what classifiers learn."""
    generator = load_generator(folder, torch.device("cpu"))
    generated = list(sample_generator(generator, REQUEST, torch.device("cpu")))
    images = np.stack([generated_slice.image for generated_slice in generated]).astype(np.float32)
    labels = np.array([generated_slice.label for generated_slice in generated])
    config = json.loads((folder / "config.json").read_text())
    figures: dict[str, float | str] = {
        "generator": f"{config['recipe']}, step {config['best_step']}",
        "n": len(images),
        "ssim_train": mean_ssim(images, train),
        "ssim_val": mean_ssim(images, val),
        "frechet": frechet_distance(features(images), features(val.images)),
    }
    if len(set(labels.tolist())) < 2:  # no mask agreed with its label: nothing to learn from
        return figures | {"auroc": np.nan, "accuracy": np.nan}
    scores = [train_classifier(images, labels, val, seed=seed) for seed in SEEDS]
    auroc, accuracy = np.mean(scores, axis=0)
    return figures | {"auroc": float(auroc), "accuracy": float(accuracy)}


def mean_ssim(images: np.ndarray, real: SliceSet) -> float:
    """Compute the mean SSIM with the nearest real slice, with flips and shifts, in the body."""
    nearest_slices = ncc_search.nearest_by_ncc(images, real.images)
    ssim = nearest_ssim(
        images, real.images, body_masks(images), body_masks(real.images), correlated=nearest_slices
    )
    return float(ssim.scores.mean())


def train_classifier(
    images: np.ndarray, labels: np.ndarray, val: SliceSet, *, seed: int
) -> tuple[float, float]:
    """Train a classifier on these slices alone; return its AUROC and accuracy on validation."""
    network = build_residual_classifier(images.shape[1], seed=seed)
    rng = np.random.default_rng(seed)
    pools = [np.flatnonzero(labels == label) for label in (0, 1)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATE, total_steps=STEPS + 1, pct_start=0.2
    )
    network.train()
    for _ in range(STEPS):
        rows = np.concatenate([rng.choice(pool, BATCH // 2) for pool in pools])
        optimizer.zero_grad(set_to_none=True)
        logits = network(torch.from_numpy(images[rows]))[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels[rows]).float())
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        probability = network(torch.from_numpy(val.images)).sigmoid()[:, 0].numpy()
    truth = val.table["label"].to_numpy()
    return roc_auc_score(truth, probability), accuracy_score(truth, probability > 0.5)


def print_tables(rows: pd.DataFrame) -> None:
    """Print the generators, and Spearman's rank correlations with their intervals."""
    ordered = rows.sort_values("accuracy")
    print("| generator | SSIM to training | to validation | Fréchet distance | AUROC | accuracy |")
    print("|---|---|---|---|---|---|")
    for row in ordered.itertuples():
        print(
            f"| {row.generator} | {row.ssim_train:.3f} | {row.ssim_val:.3f} | {row.frechet:.0f} |"
            + (" – | – |" if np.isnan(row.auroc) else f" {row.auroc:.3f} | {row.accuracy:.3f} |")  # noqa: RUF001
        )
    rows = rows.dropna()
    print(f"\n| over {len(rows)} generators | with accuracy | with AUROC |\n|---|---|---|")
    for name in COLUMNS:
        cells = [correlation(rows[name], rows[target]) for target in ("accuracy", "auroc")]
        print(f"| {name} | {' | '.join(cells)} |")


def correlation(a: "pd.Series[float]", b: "pd.Series[float]") -> str:
    """Format Spearman's correlation, 95 % interval on Fisher's scale (Bonett & Wright 2000)."""
    r = float(spearmanr(a, b).statistic)
    if len(a) < 5 or abs(r) >= 1:
        return f"{r:.2f}"
    spread = norm.ppf(0.975) * np.sqrt((1 + r**2 / 2) / (len(a) - 3))
    low, high = np.tanh(np.arctanh(r) + np.array([-spread, spread]))
    return f"{r:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
