"""A small made-up run, written by the contracts of the stages, for the tests of the last two."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tasks.schemas.lift import Lift

ARMS = ["real", "real+classical", "real+synthetic", "real+classical+synthetic", "synthetic"]


@dataclass
class Run:
    """What the made-up run should be like."""

    folds: list[str] = field(default_factory=lambda: ["0"])
    batches: list[str] = field(default_factory=lambda: ["phantom"])
    verdict: str = "accepted"
    claim: str = "helps"
    too_few: bool = False
    external: bool = False
    accept_share: float = 0.8
    synthetic: int = 30
    size: int = 32
    channels: int = 1
    not_measured: dict[str, str] = field(default_factory=dict)


def write(root: Path, run: Run) -> Path:
    """Write params.yaml and data/ under `root`."""
    rng = np.random.default_rng(5)
    (root / "data").mkdir(parents=True, exist_ok=True)
    write_params(root, run)
    subjects = [f"sub-{index:04d}" for index in range(24)]
    for batch in run.batches:
        write_volumes(root / "data/volumes" / batch, subjects)
    write_slices(root / "data/slices", subjects, run, rng)
    for fold in run.folds:
        write_gan(root / "data/gan" / fold, run)
        write_synthetic(root / "data", fold, run, rng)
    write_lift(root / "data", run)
    (root / "data/report.html").write_text("<!doctype html><title>report</title>")
    approve(root, "pending")
    (root / "data/review.json").write_text('{"folds": {}}')
    return root


def approve(root: Path, decision: str, **more: str | None) -> None:
    fields = {"decision": decision, "reviewer": None, "reason": None, "digest": None, **more}
    (root / "data/approval.json").write_text(json.dumps(fields))


def write_params(root: Path, run: Run) -> None:
    own = Path(__file__).parents[2] / "params.yaml"
    tree: dict[str, Any] = yaml.safe_load(own.read_text())
    tree["data"]["batches"] = run.batches
    tree["slices"]["folds"] = [int(fold) for fold in run.folds]
    tree["synthetic"]["source"] = "data/elsewhere" if run.external else "data/gan"
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def draw(rng: np.random.Generator, labels: np.ndarray, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Ellipses with noise, a bright disc where the label says tumour."""
    rows, columns = np.mgrid[-1 : 1 : run.size * 1j, -1 : 1 : run.size * 1j]
    images = np.full((len(labels), run.channels, run.size, run.size), -1, np.float32)
    masks = np.zeros((len(labels), run.size, run.size), np.uint8)
    for number, label in enumerate(labels):
        a, b = rng.uniform(0.65, 0.8, 2)
        brain = (rows / a) ** 2 + (columns / b) ** 2 < 1
        tissue = -0.2 + 0.15 * np.sin(7 * rows + rng.uniform(0, 6)) * np.cos(6 * columns)
        images[number, :, brain] = tissue[brain][:, None] + rng.normal(
            0, 0.05, (brain.sum(), run.channels)
        )
        if label == 1:
            y, x = rng.uniform(-0.35, 0.35, 2)
            disc = (rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(0.12, 0.28) ** 2
            masks[number] = disc
            images[number, :, disc] = 0.7
    return images.clip(-1, 1), masks


def save(folder: Path, images: np.ndarray, masks: np.ndarray) -> None:
    np.save(folder / "images.npy", images.astype(np.float16))
    np.save(folder / "masks.npy", masks)


def write_volumes(folder: Path, subjects: list[str]) -> None:
    folder.mkdir(parents=True)
    rows = [
        {
            "subject": subject, "session": None, "modality": "FLAIR",
            "image": f"{subject}.nii.gz", "mask": f"{subject}_mask.nii.gz",
            "mask_status": "segmented" if index % 2 else "empty", "shape": [32, 32, 20],
            "spacing_mm": [1.0, 1.0, 5.0], "orientation": "RAS",
            "source_format": "dicom" if index % 3 == 0 else "nifti",
            "source_sha256": f"{index:064x}", "site": "AB"[index % 2], "synthetic": False,
        }
        for index, subject in enumerate(subjects)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet")
    refused = [("ab12", "not-a-volume"), ("cd34", "missing-slice"), ("ef56", "missing-slice")]
    pd.DataFrame(
        [
            {"token": token, "code": code, "reason": f"{code} found", "remedy": "send it again"}
            for token, code in refused
        ]
    ).to_parquet(folder / "rejected.parquet")


def write_slices(folder: Path, subjects: list[str], run: Run, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    table = pd.DataFrame(
        [
            {
                "subject": subject, "batch": run.batches[index % len(run.batches)],
                "site": "AB"[index % 2], "slice_index": number, "position_mm": 5.0 * number,
                "brain_area_mm2": 9000.0, "tumor_area_mm2": 300.0 * ((index + number) % 2),
                "label": (index + number) % 2,
            }
            for index, subject in enumerate(subjects)
            for number in range(4)
        ]
    )  # fmt: skip
    table.insert(0, "row", np.arange(len(table)))
    for shift, fold in enumerate(run.folds):
        place = (table["row"] // 4 + shift) % 4
        table[f"partition_{fold}"] = place.map({0: "test", 1: "val", 2: "train", 3: "train"})
    images, masks = draw(rng, table["label"].to_numpy(), run)
    save(folder, images, masks)
    table.to_parquet(folder / "slices.parquet")
    stats = {
        "size": run.size, "pixel_mm": 3.0, "modalities": ["FLAIR", "T1"][: run.channels],
        "normalisation": {}, "subjects": {},
        "matching": {
            "before": {"position_mm": 0.71, "brain_area_mm2": 0.66},
            "after": {"position_mm": 0.52, "brain_area_mm2": None},
        },
    }  # fmt: skip
    (folder / "stats.json").write_text(json.dumps(stats))


def write_gan(folder: Path, run: Run) -> None:
    folder.mkdir(parents=True)
    kind = "external" if run.external else "dcgan"
    (folder / "config.json").write_text(json.dumps({"kind": kind, "size": run.size}))
    steps = np.arange(0) if run.external else np.arange(0, 1200, 50)
    history = pd.DataFrame({
        "step": steps, "loss_d": 0.7 - steps / 5000, "loss_g": 1 + np.exp(-steps / 300), "r1": 0.1,
        "l1": np.nan, "score_train": 0.6, "score_val": 0.55, "score_fake": 0.4,
        "std_z_none": 0.7 * (1 - np.exp(-steps / 400)),
        "std_z_tumor": 0.6 * (1 - np.exp(-steps / 400)),
        "ssim_none": 0.5, "ssim_tumor": 0.55, "mask_missing": np.exp(-steps / 90),
        "mask_spurious": 0.02, "fd_ratio_none": 4 + 9 * np.exp(-steps / 300),
        "fd_ratio_tumor": np.nan, "event": "",
    })  # fmt: skip
    history.loc[history["step"] == 1000, "event"] = "best"
    history.to_csv(folder / "history.csv", index=False)


def write_synthetic(data: Path, fold: str, run: Run, rng: np.random.Generator) -> None:
    folder, gate = data / "synthetic" / fold, data / "gate" / fold
    folder.mkdir(parents=True)
    gate.mkdir(parents=True)
    labels = np.arange(run.synthetic) % 2
    images, masks = draw(rng, labels, run)
    save(folder, images, masks)
    samples = pd.DataFrame(
        {"row": np.arange(len(labels)), "seed": np.arange(len(labels)) + 1000, "label": labels}
    )
    samples.to_parquet(folder / "samples.parquet")
    accepted = rng.random(len(labels)) < run.accept_share
    samples["suspect_by"] = rng.choice(["correlation", "tumor"], len(labels))
    samples["suspect_ratio"] = rng.uniform(0.1, 1.2, len(labels))
    samples["suspicion"] = samples["suspect_ratio"] / 0.4
    samples["suspect_row"] = rng.integers(0, 96, len(labels))
    samples["accepted"] = accepted
    reasons = rng.choice(["memorised", "mask", "spectrum"], len(labels))
    samples["reason"] = np.where(accepted, None, reasons)
    samples.to_parquet(gate / "samples.parquet")
    rejected = run.verdict == "rejected"
    (gate / "metrics.json").write_text(json.dumps({
        "verdict": run.verdict,
        "reasons": ["FD(net): 9.10 times that of real slices (at most 6.0)"] * rejected,
        "not_measured": run.not_measured,
        "bounds": {
            "memorised_correlation_ratio": 0.4, "memorised_tumor_ratio": 0.3, "outline": 6.0
        },
        "images": {
            "n": len(labels), "accepted": int(accepted.sum()),
            "memorised": int((samples["reason"] == "memorised").sum()),
        },
        "measures": {
            "FD(net)": {
                "value": 12.1, "baseline": 3.1, "ratio": 9.1 if rejected else 3.9,
                "ci95": [3.1, 4.6], "limit": [None, 6.0], "n": 120, "method": "on features",
                "status": "outside" if rejected else "within",
            },
            "nearest_ssim": {
                "value": 0.61, "baseline": 0.6, "ratio": 1.02, "ci95": [0.98, 1.05],
                "limit": [0.75, 1.2], "n": 120, "method": "SSIM, Wang 2004",
                "status": "within",
            },
            "recall": {
                "value": 0.0, "baseline": 0.7, "ratio": 0.0, "ci95": [0.0, 0.1], "limit": None,
                "n": 120, "method": "",
            },
            "novel_measure": {
                "value": 0.1, "baseline": None, "ratio": None, "ci95": None, "limit": None,
                "n": 120, "method": "",
            },
        },
    }))  # fmt: skip


METRICS = {
    "classify": ["auroc", "accuracy", "sensitivity", "specificity", "brier"],
    "segment": ["dice", "dice_slice", "hd95_mm", "false_positive_mm2"],
}


def write_lift(data: Path, run: Run) -> None:
    gain = {"helps": 0.05, "harms": -0.05, "no evidence": 0.004, "not measured": 0.0}[run.claim]
    measured = not run.too_few and run.claim != "not measured"
    contrast = {"lift": gain, "ci95": [gain - 0.02, gain + 0.02], "p_adjusted": 0.03}
    contrasts = [
        {"arm": arm, "reference": reference, **contrast}
        for arm in ("real+synthetic", "real+classical+synthetic")
        for reference in ("real", "real+classical")
    ]
    document = {
        "claim": dict.fromkeys(METRICS, run.claim),
        "tasks": {
            task: {name: {arm: figures(arm, name, gain, run) for arm in ARMS} for name in names}
            for task, names in METRICS.items()
        },
        "primary": {"classify": "auroc", "segment": "dice"},
        "contrasts": dict.fromkeys(METRICS, contrasts if measured else []),
        "n_patients": 12, "n_seeds": 2, "method": "Bootstrap by test patient.",
    }  # fmt: skip
    Lift.model_validate(document)
    (data / "lift.json").write_text(json.dumps(document))
    (data / "lift.csv").write_text("task,metric,arm,mean\nsegment,dice,real,0.71\n")


def figures(arm: str, metric: str, gain: float, run: Run) -> dict[str, Any]:
    if "synthetic" in arm and (run.too_few or run.claim == "not measured"):
        return {"status": "too few"}
    scale = -30 if metric in ("hd95_mm", "false_positive_mm2") else 1
    mean, lift = (14.0 if scale < 0 else 0.7) + scale * gain, scale * gain
    own = {"mean": mean, "ci95": [mean - 0.05, mean + 0.05], "n_patients": 12, "status": "ok"}
    if arm == "real":
        return own
    width = 0.02 * abs(scale)
    return {
        **own, "lift_over_real": lift, "lift_ci95": [lift - width, lift + width],
        "p_adjusted": 0.03,
    }  # fmt: skip
