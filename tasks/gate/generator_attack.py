"""Attack the generator itself: how well can it be made to draw a patient's slice?

Membership inference with the weights at hand, as those have who receive an exported generator: the
white-box attack of GAN-Leaks (Chen 2020, arXiv 1909.03935). For each real slice the z
is sought whose slice is most like it; training slices are thought to be drawn better. The error is
calibrated, as there, by how near the slice lies to real slices of other patients.
"""

import hashlib
import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from models.dcgan import Architecture, Generator
from tasks.common.slice_set import SliceSet
from tasks.common.torch_setup import seeded_generator
from tasks.gate import membership
from tasks.gate.membership import MembershipAttack
from tasks.measures.features.feature_distances import nearest_rows
from tasks.stage.stage_io import explain_read_errors

Floats = NDArray[np.float64]

NAME: Final = "generator, by reconstruction"
PER_PATIENT: Final = 4  # slices, evenly spaced
STARTS: Final = 256  # z of each label, of which a slice's search begins at the best
BATCH: Final = 64
RATE: Final = 0.05  # of Adam
PRIOR: Final = 1e-3  # weight of z's mean square: a far z draws what the generator never would
METHOD: Final = (
    "GAN-Leaks, white box (Chen 2020): error of the best of {steps} steps for z, calibrated by the"
    " nearest real slice; up to {per_patient} slices a patient; interval by Newcombe 2006"
)


def read_generator(folder: Path, sha256: str, device: torch.device) -> Generator | None:
    """Read the generator in `data/gan/FOLD`; None where it is not the one with these weights."""
    weights = folder / "generator.safetensors"
    if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() != sha256:
        return None
    with explain_read_errors(folder / "config.json"):
        config = json.loads((folder / "config.json").read_text())
        if config.get("kind") != "dcgan":
            return None
        generator = Generator(Architecture(**config["architecture"]))
        generator.load_state_dict(load_file(weights))
    return generator.to(device).eval().requires_grad_(False)


def attack_generator(
    generator: Generator,
    train: SliceSet,
    val: SliceSet,
    *,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> MembershipAttack:
    """Attack a generator; slices as `membership.usable_slices` takes them."""
    chosen = [choose_slices(side) for side in (train, val)]
    images = np.concatenate([side.images for side in chosen])
    labels = np.concatenate([side.table["label"].to_numpy() for side in chosen])
    errors = reconstruction_errors(
        generator, images, labels, steps=steps, seed=seed, device=torch.device(device)
    )
    tables = [side.table for side in chosen]
    flat = images.reshape(len(images), -1).astype(np.float64)
    patients = membership.patient_numbers(*tables)
    nearest = nearest_rows(flat, flat, keep=1, owners=(patients, patients))[1][:, 0]
    scores = membership.density_ratio(errors, nearest / np.sqrt(flat.shape[1]))
    method = METHOD.format(steps=steps, per_patient=PER_PATIENT)
    return membership.attack_patients(scores, *tables, method=method)


def choose_slices(slices: SliceSet) -> SliceSet:
    """Choose up to `PER_PATIENT` usable slices of each patient, evenly spaced."""
    usable = np.flatnonzero(membership.usable_slices(slices.table))
    subjects = slices.table["subject"].to_numpy()[usable]
    rows = []
    for subject in dict.fromkeys(subjects):
        of_subject = usable[subjects == subject]
        count = min(PER_PATIENT, len(of_subject))
        places = np.linspace(0, len(of_subject) - 1, count).round().astype(int)
        rows.append(of_subject[places])
    return slices.select(np.concatenate(rows) if rows else usable)


def reconstruction_errors(
    generator: Generator,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    steps: int,
    seed: int,
    device: torch.device,
) -> Floats:
    """Find how nearly the generator can draw each image (N,C,H,W); return the least RMSE (N,).

    Where a label is unknown (-1), every image is drawn with both labels and the lesser error
    counts: to try twice for these alone would make them seem to be drawn better.
    """
    latent = generator.architecture.latent
    noise = torch.randn(STARTS, latent, generator=seeded_generator(seed)).to(device)
    tried = [np.full_like(labels, label) for label in (0, 1)] if (labels < 0).any() else [labels]
    errors = [search_all(generator, images, given, noise, steps=steps) for given in tried]
    least: Floats = np.min(errors, axis=0)
    return least


def search_all(
    generator: Generator,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    noise: Tensor,
    *,
    steps: int,
) -> Floats:
    """Find each image (N,C,H,W) with these labels (N,), from the best z of `noise` (S,latent)."""
    device = noise.device
    starts = {
        label: generate_images(generator, noise, torch.full((len(noise),), label, device=device))
        for label in sorted({int(label) for label in labels})
    }
    errors = np.empty(len(images))
    for top in range(0, len(images), BATCH):
        x = torch.from_numpy(images[top : top + BATCH]).to(device)
        y = torch.from_numpy(labels[top : top + BATCH].astype(np.int64)).to(device)
        rows = [best_start(starts[int(label)], image) for image, label in zip(x, y, strict=True)]
        z = noise[torch.tensor(rows, device=device)]
        errors[top : top + BATCH] = search_z(generator, x, y, z, steps=steps)
    return errors


def generate_images(generator: Generator, z: Tensor, labels: Tensor) -> Tensor:
    """Generate the images (B,C,H,W) of z, without gradients and without the mask."""
    with torch.no_grad():
        images: Tensor = generator(z, labels)[:, :-1]
    return images


def best_start(generated: Tensor, image: Tensor) -> int:
    """Return which of the generated images (S,C,H,W) is most like an image."""
    return int((generated - image).square().flatten(1).mean(1).argmin())


def search_z(
    generator: Generator, images: Tensor, labels: Tensor, start: Tensor, *, steps: int
) -> Floats:
    """Move z by gradients towards each image; return the least RMSE of all steps (B,)."""
    z = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([z], lr=RATE)
    best = torch.full((len(images),), torch.inf, device=images.device)
    for _ in range(steps):
        error = (generator(z, labels)[:, :-1] - images).square().flatten(1).mean(1)
        best = torch.minimum(best, error.detach())
        loss = (error + PRIOR * z.square().mean(1)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    least: Floats = best.sqrt().double().cpu().numpy()
    return least
