"""A clone with a generator that nobody trained, but that draws all kinds of slices."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import save_file

from models.dcgan import Architecture, Generator
from tests.tasks.train_gan_fixtures import SIZE, write_params


def clone(
    root: Path, *, modalities: tuple[str, ...] = ("FLAIR",), conditions: tuple[str, ...] = ()
) -> Path:
    """What a clone holds after training: a generator, and what its slices look like."""
    write_params(root, min_tumor_px=1, threads=1, channels=len(modalities))
    tree: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text())
    tree["release"] = {"version": "0.1.0", "license": "of the test"}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    (root / "data/slices").mkdir(parents=True)
    stats = {"modalities": modalities, "pixel_mm": 3.0}
    (root / "data/slices/stats.json").write_text(json.dumps(stats))
    patients = pd.DataFrame({"subject": [f"sub-{n:04d}" for n in range(12)]})
    patients.assign(partition_0="train", label=1).to_parquet(root / "data/slices/slices.parquet")
    architecture = Architecture(size=SIZE, latent=8, width=4, channels=len(modalities),
                                conditions=conditions)  # fmt: skip
    folder = root / "data/gan/0"
    folder.mkdir(parents=True)
    save_file(lively(architecture).state_dict(), folder / "generator.safetensors")
    config = {"kind": "dcgan", "architecture": asdict(architecture)}
    (folder / "config.json").write_text(json.dumps(config))
    return root


def lively(architecture: Architecture) -> Generator:
    """Slices that vary with z; some of those without tumour get a mask, and are drawn again."""
    torch.manual_seed(0)
    generator = Generator(architecture)
    for weight in generator.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, 0, 0.3)
    with torch.no_grad():
        generator.head.bias[:-1], generator.head.bias[-1] = 0.5, -2.0
    return generator
