"""Sample a fold's synthetic slices, or read them from the folder that `synthetic.source` names.

Reads `data/gan/FOLD` or that folder; writes `data/synthetic/FOLD`: `images.npy`, `masks.npy`,
`samples.parquet` (with the redraws of each slice) and `summary.json`.
"""

import hashlib
import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import params
from tasks.common.generator_slices import WITHOUT_OUTLINES
from tasks.common.slice_set import write_slice_set
from tasks.common.unreleasable import UNRELEASABLE, reason_not_to_release
from tasks.params.generate import Generate
from tasks.schemas.samples import Samples
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage


def main(fold: str) -> None:
    """Sample or read the slices, then write them."""
    config = params.read_section(Generate)
    source = Path(str(params.read_key("synthetic.source")))
    trained = source == Path("data/gan")
    images: NDArray[np.floating]
    if trained:
        images, masks, table = sample_from_generator(source / fold, config)
    else:
        images, masks, table = read_external_slices(source)
    Samples.validate(table)
    weights = source / fold / "generator.safetensors" if trained else None
    counts = count_slices(table, config, weights)
    if trained and (without_outlines := read_without_outlines(source / fold)):
        counts[WITHOUT_OUTLINES] = without_outlines
    unreleasable = None if trained else reason_not_to_release(source)
    with atomic_output(Path("data/synthetic") / fold) as out:
        write_slice_set(out, images, masks)
        table.to_parquet(out / "samples.parquet", index=False)
        (out / "summary.json").write_text(json.dumps(counts, indent=2) + "\n")
        if unreleasable:
            (out / UNRELEASABLE).write_text(unreleasable + "\n")


def read_without_outlines(folder: Path) -> int:
    """Return how many slices without outlines taught a generator, from its `config.json`.

    The gate must seek copies of these too.
    """
    config = json.loads((folder / "config.json").read_text())
    return int(config.get(WITHOUT_OUTLINES, {}).get("slices", 0))


def sample_from_generator(
    folder: Path, config: Generate
) -> tuple[NDArray[np.float16], NDArray[np.uint8], pd.DataFrame]:
    """Sample slices (N,C,H,W), masks (N,H,W) and their table from a trained generator."""
    from tasks.common import torch_setup
    from tasks.generate.load_generator import load_generator
    from tasks.generate.sample_generator import SamplingRequest, known_sites, sample_generator

    device = torch_setup.setup_torch(config.threads)
    generator = load_generator(folder, device)
    request = SamplingRequest(
        **{each.name: getattr(config, each.name) for each in fields(SamplingRequest)}
    )
    for key, name in (("tumor_area_mm2", "area"), ("position_mm", "position")):
        if getattr(config, key) is not None and name not in generator.architecture.conditions:
            raise InputError(
                f"generate.{key} is {getattr(config, key):g}, but {folder} was not trained to be"
                f" asked for it; remove the key, or add {name} to train_gan.conditions"
            )
    sites = known_sites(generator.architecture.conditions)
    if config.site is not None and config.site not in sites:
        learnt = f"learnt the sites {', '.join(sites)}; ask for one of them" if sites else (
            "was not trained to be asked for it; add site to train_gan.conditions"
        )  # fmt: skip
        raise InputError(
            f"generate.site is {config.site}, but {folder} {learnt}, or remove the key"
        )
    samples = list(sample_generator(generator, request, device))
    size, channels = generator.architecture.size, generator.architecture.channels
    images = np.empty((len(samples), channels, size, size), np.float16)
    masks = np.empty((len(samples), size, size), np.uint8)
    for row, sample in enumerate(samples):
        images[row], masks[row] = sample.image, sample.mask
    if len(samples) < config.count:
        print(
            f"generate: {config.count - len(samples)} of {config.count} slices left out: their mask"
            f" never agreed with their label in {config.attempts} draws",
            file=sys.stderr,
        )
    table = pd.DataFrame(
        {
            "row": np.arange(len(samples)),
            "seed": np.array([sample.seed for sample in samples], np.int64),
            "label": np.array([sample.label for sample in samples], np.int64),
            "redraws": np.array([sample.redraws for sample in samples], np.int64),
        }
    )
    return images, masks, flag_missing_masks(table, masked=generator.architecture.masked)


def read_external_slices(
    folder: Path,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], pd.DataFrame]:
    """Read all slices of an image folder; sizes, channels and masks must suit the other stages.

    Raises:
        InputError: when they do not.
    """
    from tasks.generate.external_images import read_image_folder

    if not folder.is_dir():
        raise InputError(f"synthetic.source is {folder}, which is no folder; correct params.yaml")
    content = read_image_folder(folder)
    assumptions = ", ".join(f"{key} {text}" for key, text in content.assumed.items())
    print(f"generate: assumed of synthetic.source: {assumptions}")
    if (content.labels < 0).any():
        raise InputError(
            f"{folder} does not say which slices show a tumour: it has neither masks nor a"
            " slices.csv with a column label of 0 and 1; add one of them"
        )
    size = int(params.read_key("slices.size"))
    channels = len(params.read_key("slices.modalities"))
    if content.images.shape[1:] != (channels, size, size):
        shape = " x ".join(map(str, content.images.shape[1:]))
        raise InputError(
            f"{folder} holds slices of {shape} (channels, rows, columns), slices.modalities and"
            f" slices.size ask for {channels} x {size} x {size}; resize them or change params.yaml"
        )
    masks = content.masks
    masked = masks is not None
    if masks is None:
        if "segment" in params.read_key("downstream.tasks") and content.labels.any():
            raise InputError(
                f"{folder} has tumour slices without masks, which `segment` cannot learn from; add"
                " masks.npy, or remove segment from downstream.tasks"
            )
        masks = np.zeros((len(content.images), size, size), np.uint8)
    rows = np.arange(len(content.images))
    table = pd.DataFrame({"row": rows, "seed": 0, "label": content.labels, "redraws": 0})
    return content.images, masks, flag_missing_masks(table, masked=masked)


def flag_missing_masks(table: pd.DataFrame, *, masked: bool) -> pd.DataFrame:
    """Flag images without a mask, so that the gate does not read them as tumour-free."""
    return table if masked else table.assign(masked=False)


def count_slices(table: pd.DataFrame, config: Generate, weights: Path | None) -> dict[str, object]:
    """Count slices and redraws for `summary.json`, with the hash of the generator's weights.

    `weights` is None for slices from a folder, which this pipeline did not generate.
    """
    return {
        "source": "folder" if weights is None else "generator",
        "generator_sha256": weights and hashlib.sha256(weights.read_bytes()).hexdigest(),
        "asked": None if weights is None else config.count,
        "written": {"none": int((table["label"] == 0).sum()), "tumor": int(table["label"].sum())},
        "drawn_again": int((table["redraws"] > 0).sum()),
        "redraws": int(table["redraws"].sum()),
    }


if __name__ == "__main__":
    run_stage(main)
