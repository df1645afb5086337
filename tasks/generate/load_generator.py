"""Load a trained generator from `data/gan/FOLD`."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError

from models.dcgan import Generator
from tasks.generate.sample_generator import build_generator
from tasks.stage.errors import InputError


def load_generator(folder: Path, device: torch.device) -> Generator:
    """Build the generator of `config.json` with the weights of `generator.safetensors`.

    Raises:
        InputError: when the folder holds no generator of this pipeline, or weights of another
            shape.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise InputError(
            f"{folder}/config.json is missing; run `dvc repro train_gan@{folder.name}`"
        ) from None
    if config.get("kind") != "dcgan":
        raise InputError(
            f"{folder} holds a generator of kind {config.get('kind')!r}, expected 'dcgan'; run"
            f" `dvc repro train_gan@{folder.name}`"
        )
    try:
        return build_generator(config["architecture"], folder / "generator.safetensors", device)
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder} cannot be read as a generator ({str(error).splitlines()[0]}); run"
            f" `dvc repro --force train_gan@{folder.name}`"
        ) from None
