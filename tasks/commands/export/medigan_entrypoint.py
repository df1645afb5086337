"""The entry point of the package for medigan, which calls `generate`."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.commands.export.standalone_generator import (
    GeneratorInfo,
    generate_slices,
    load_packed_generator,
    subject_name,
)
from tasks.release import png_writer

Sample = tuple[NDArray[np.float32], NDArray[np.uint8], str]


def generate(
    *,
    model_file: str,
    num_samples: int = 10,
    output_path: str = "output",
    save_images: bool = True,
    label: str = "both",
    seed: int = 0,
    **_: Any,
) -> list[Sample] | None:
    """Generate slices with tumour masks.

    Args:
        model_file: `generator.safetensors`; `generator.json` lies beside it.
        num_samples: how many.
        output_path: of PNG files, each marked as synthetic in a text chunk.
        save_images: write files; otherwise samples are returned.
        label: `tumor`, `none`, or `both` by turns.
        seed: another one draws other slices; the first slices of a seed stay the same.

    Returns:
        For each sample the slice (H,W), or (H,W,C) with several modalities, in [-1, 1], its mask
        (H,W) in {0, 1}, and "1" where there is a tumour, "0" where there is none.
    """
    weights, folder = Path(model_file), Path(output_path)
    info = GeneratorInfo.load(weights.parent)
    skipped = count_earlier_slices(folder) if save_images else 0
    request = info.sampling_request(count=skipped + num_samples, label=label, seed=seed)
    samples = islice(
        generate_slices(load_packed_generator(info, weights), info, request), skipped, None
    )
    if not save_images:
        return [
            (channels_last(sample.image), sample.mask, str(sample.label)) for _, sample in samples
        ]
    folder.mkdir(parents=True, exist_ok=True)
    for index, sample in samples:
        name = subject_name(info, request, index, sample.label)
        png_writer.write_png(folder, name, sample.image, sample.mask, modalities=info.modalities)
    return None


def count_earlier_slices(folder: Path) -> int:
    """Count the slices that earlier batches hold.

    medigan asks for 32 at a time, with the same seed, in folders `batch_0`, `batch_1`, ..., whose
    files it puts beside them as `batch_0_NAME`.
    """
    batch = re.fullmatch(r"batch_(\d+)", folder.name)
    earlier = range(int(batch[1])) if batch else ()
    return sum(len(list(folder.parent.glob(f"batch_{n}_*_mask.png"))) for n in earlier)


def channels_last(image: NDArray[np.float16]) -> NDArray[np.float32]:
    """Move (C,H,W) to (H,W,C), and to (H,W) where there is one channel."""
    moved = np.moveaxis(image.astype(np.float32), 0, -1)
    return moved[..., 0] if moved.shape[-1] == 1 else moved
