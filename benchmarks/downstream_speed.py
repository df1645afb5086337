"""Time a training step of `downstream` beside the same network fed slice by slice by MONAI.

    python -m benchmarks.downstream_speed [--sizes 64 128] [--threads 1]

The contenders train the same network with the same loss and optimiser on batches of the same random
slices. `auglift` augments a whole batch by one resampling; `monai` composes MONAI's own random
transforms of the same kinds, slice by slice, as its tutorials do. They take turns, round by round,
and a ratio is that of one round. Times are the process's CPU seconds where there is no GPU, because
others may use the cores too. FLOPs of `segment` are counted, and compared with a matrix product
timed in the same run; those of `classify` are not, since the counter takes the gradients of
depthwise convolutions for full ones.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
import torch
from monai import transforms
from torch import nn

from benchmarks.roofline import Cost, MachinePeak, describe_machine, time_steps
from tasks.common.torch_setup import seeded_generator, setup_torch, uses_bf16
from tasks.downstream.__main__ import import_task
from tasks.params.downstream import ClassifyTraining, SegmentTraining, TaskTraining
from tasks.training.augmentation import CLASSICAL
from tasks.training.fit import Batch, fit

BATCH, SLICES = 16, 256
FEW = 8  # steps, the fewest that a training may have
SHAPES: dict[str, type[TaskTraining]] = {"segment": SegmentTraining, "classify": ClassifyTraining}


def main() -> None:
    """Print the machine, its peaks, and a table for each task and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--tasks", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of a contender in a round")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    device = setup_torch(options.threads)
    print(f"torch {torch.__version__}, {describe_machine(device)}, {options.threads} threads")
    peak = MachinePeak.measure(device)
    print(peak)
    for task in options.tasks:
        for size in options.sizes:
            print(f"\n{task}, {size} px, batch {BATCH}")
            print(compare(task, size, options, peak, device).to_markdown(index=False))


def compare(
    task: str, size: int, options: argparse.Namespace, peak: MachinePeak, device: torch.device
) -> pd.DataFrame:
    """Time the contenders in turns; a row each."""
    slices = random_slices(size, device)
    precisions = {"fp32": False} | ({"bf16": True} if uses_bf16("auto", device) else {})
    trainings = {
        f"{name} {precision}": partial(train, task, source, slices, bf16=bf16, device=device)
        for name, source in {"auglift": whole_batches, "monai": batches_of_monai}.items()
        for precision, bf16 in precisions.items()
    }
    seconds = {name: np.empty(options.rounds) for name in trainings}
    for number in range(-1, options.rounds):  # the first one warms up and is overwritten
        for name, training in trainings.items():
            of_steps, _ = time_steps(partial(training, steps=options.steps), 1, device)
            seconds[name][number] = of_steps / options.steps
    flops = Cost.of(partial(trainings["auglift fp32"], steps=FEW), 1).flops / FEW
    best_peer = np.min([times for name, times in seconds.items() if "monai" in name], axis=0)
    rows = []
    for name, times in seconds.items():
        middle, ratio = float(np.median(times)), best_peer / times
        ceiling = peak.bf16 if name.endswith("bf16") else peak.fp32
        share = f"{flops / middle / ceiling:.0%}" if task == "segment" else ""
        rows.append(
            {
                "": name,
                "steps/s": f"{1 / middle:.1f}",
                "ms a step": f"{1000 * middle:.1f}",
                "of the product ceiling": share,
                "times the better peer": (
                    f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
                ),
            }
        )
    return pd.DataFrame(rows)


def train(
    task: str,
    batches: Callable[[Batch], Iterator[Batch]],
    slices: Batch,
    *,
    bf16: bool,
    device: torch.device,
    steps: int,
) -> None:
    """Train a new network for some steps, as `downstream` does; one slice validates, once."""
    module = import_task(task)
    training = SHAPES[task](steps=steps, batch=BATCH, learning_rate=1e-3, evaluations=1)
    network = module.build_network(1, training, seed=1).to(device)
    fit(
        network, module.loss, islice(batches(slices), steps), lambda _: 0.0, slices[0][:1],
        training=training, bf16=bf16,
    )  # fmt: skip


def whole_batches(slices: Batch) -> Iterator[Batch]:
    """Augment whole batches, as auglift does."""
    generator = seeded_generator(0, 1)
    for images, masks, labels in plain_batches(slices):
        yield *CLASSICAL(images, masks, generator), labels


def batches_of_monai(slices: Batch) -> Iterator[Batch]:
    """Augment slice by slice with MONAI's transforms, of the same kinds and widths."""
    side = slices[0].shape[-1]
    both = {"keys": ["image", "mask"], "mode": ["bilinear", "nearest"], "padding_mode": "zeros"}
    change = transforms.Compose(
        [
            transforms.RandFlipd(["image", "mask"], prob=0.5, spatial_axis=1),
            transforms.Rand2DElasticd(
                **both, prob=1.0, spacing=(side // 5, side // 5),
                magnitude_range=(0.0, CLASSICAL.elastic * side),
                rotate_range=math.radians(CLASSICAL.rotation), scale_range=CLASSICAL.scale,
                shear_range=CLASSICAL.shear, translate_range=CLASSICAL.shift * side,
            ),
            transforms.RandAdjustContrastd("image", prob=1.0, gamma=(0.7, 1.42)),
            transforms.RandScaleIntensityd("image", factors=CLASSICAL.gain, prob=1.0),
            transforms.RandShiftIntensityd("image", offsets=CLASSICAL.offset, prob=1.0),
            transforms.RandGaussianNoised("image", prob=1.0, std=CLASSICAL.noise),
        ]
    ).set_random_state(0)  # fmt: skip
    for images, masks, labels in plain_batches(slices):
        changed = [
            change({"image": (image + 1) / 2, "mask": mask})
            for image, mask in zip(images, masks, strict=True)
        ]
        parts = [torch.stack([torch.as_tensor(one[name]) for one in changed])
                 for name in ("image", "mask")]  # fmt: skip
        yield parts[0].clamp(0, 1) * 2 - 1, parts[1], labels


def plain_batches(slices: Batch) -> Iterator[Batch]:
    """Draw batches of half tumour, half none, without end."""
    rng = np.random.default_rng(0)
    while True:
        rows = np.concatenate([2 * rng.permutation(SLICES // 2)[: BATCH // 2] + label
                               for label in (0, 1)])  # fmt: skip
        images, masks, labels = (part[torch.as_tensor(rows)] for part in slices)
        yield images, masks, labels


def random_slices(size: int, device: torch.device) -> Batch:
    """Make smooth random images (N,1,H,W) in [-1, 1], square masks and alternating labels."""
    generator = seeded_generator(0, 0)
    coarse = torch.rand(SLICES, 1, size // 8, size // 8, generator=generator)
    images = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1) * 2 - 1
    masks = torch.zeros(SLICES, 1, size, size)
    masks[::2, :, size // 3 : size // 2, size // 3 : size // 2] = 1
    labels = masks.amax(dim=(2, 3))
    return images.to(device), masks.to(device), labels.to(device)


if __name__ == "__main__":
    main()
