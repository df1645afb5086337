"""Load a trained generator from `data/gan/FOLD`."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.dcgan import Architecture, Generator
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
        architecture = Architecture(**config["architecture"])
        generator = Generator(architecture)
        generator.load_state_dict(load_file(folder / "generator.safetensors"))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder} cannot be read as a generator ({str(error).splitlines()[0]}); run"
            f" `dvc repro --force train_gan@{folder.name}`"
        ) from None
    layout = torch.channels_last
    on_device: Generator = generator.to(device, memory_format=layout)  # type: ignore[call-overload]
    on_device.eval()
    return on_device
