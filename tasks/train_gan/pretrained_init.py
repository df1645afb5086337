"""Start from the networks of an earlier training, such as one on the phantom (Wang 2018).

`networks.safetensors` holds the generator and the discriminators as they were at the last step. An
untrained discriminator would ruin a trained generator. Only the one that sees no masks may be new:
the earlier training, such as one on the phantom, may have had no scans without outlines.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tasks.stage.errors import InputError
from tasks.train_gan.trainer import Trainer

NETWORKS_FILE = "networks.safetensors"
NETWORKS = ("generator", "discriminator", "image_discriminator")


def save_networks(folder: Path, trainer: Trainer) -> None:
    """Write the networks and their architecture."""
    networks = trainer.networks()
    tensors = {
        f"{part}.{name}": value.detach().cpu().contiguous()
        for part in NETWORKS
        if part in networks
        for name, value in networks[part].state_dict().items()
    }
    architecture = json.dumps(asdict(trainer.architecture), sort_keys=True)
    save_file(tensors, folder / NETWORKS_FILE, metadata={"architecture": architecture})


def load_networks(trainer: Trainer, path: Path, sha256: str) -> None:
    """Load the weights of a file into a trainer's networks.

    Raises:
        InputError: when the file is not the one that was meant, or its networks are of another
            architecture.
    """
    try:
        actual_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"train_gan.start_from is {str(path)!r}: {error.strerror}; give the path of a"
            f" {NETWORKS_FILE} that an earlier training wrote to data/gan/FOLD"
        ) from None
    if actual_sha256 != sha256:
        raise InputError(
            f"{path} has SHA-256 {actual_sha256}, train_gan.start_sha256 says {sha256}; if these"
            " are the weights that are meant, write the former into params.yaml"
        )
    try:
        with safe_open(path, "pt") as stored:
            stored_architecture = json.loads((stored.metadata() or {}).get("architecture", "{}"))
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is no {NETWORKS_FILE}: {error}") from None
    architecture = json.loads(json.dumps(asdict(trainer.architecture)))
    for name, value in architecture.items():
        if stored_architecture.get(name) != value:
            raise InputError(
                f"{path} holds networks with {name} {stored_architecture.get(name)!r}, params.yaml"
                f" and data/slices ask for {value!r}; make them equal, or train from the beginning"
            )
    stored_parts = {name.partition(".")[0] for name in tensors}
    for part, network in trainer.networks().items():
        if part in NETWORKS and (part in stored_parts or part != "image_discriminator"):
            weights = {name: tensors[f"{part}.{name}"] for name in network.state_dict()}
            network.load_state_dict(weights)
    trainer.ema.load_state_dict(trainer.generator.state_dict())
