"""Save and load the checkpoint of a training, so that a killed run ends in the same bytes.

A checkpoint lies in a git-ignored `.checkpoints/HASH/`. HASH covers everything that decides the
result: params, input slices, code, torch, threads, device. So a run never finds the checkpoint of a
different run.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tasks.common.stage_code import code_files, update_with_files
from tasks.stage.stage_io import discard

ROOT = Path(".checkpoints")
FILE = "state.safetensors"


def checkpoint_folder(settings: Iterable[str], inputs: Iterable[Path]) -> Path:
    """Return the checkpoint folder of a run.

    Args:
        settings: texts that decide the result, such as the params.
        inputs: files that the run reads.
    """
    digest = hashlib.sha256()
    for setting in (
        *settings,
        torch.__version__,
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
    ):
        digest.update(setting.encode() + b"\0")
    update_with_files(digest, (*inputs, *code_files("train_gan")))
    return ROOT / digest.hexdigest()[:16]


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata to one file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE}.partial"
    packed = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(packed, partial, metadata={"facts": json.dumps(metadata)})
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(folder / FILE)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and metadata of the last checkpoint, or None."""
    try:
        with safe_open(folder / FILE, "pt") as stored:
            metadata = json.loads(stored.metadata()["facts"])
            return {name: stored.get_tensor(name) for name in stored.keys()}, metadata  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return None


def remove_checkpoint(folder: Path) -> None:
    """Delete the checkpoint of a complete run."""
    discard(folder)
