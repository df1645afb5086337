"""An atomic checkpoint, so that a run killed at any moment ends in the same bytes.

It lies in a git-ignored `.checkpoints/HASH/`, where HASH is of everything that decides the
result: params, input slices, code, torch, threads, device. A checkpoint of another run is
never found.
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


def folder_of(words: Iterable[str], inputs: Iterable[Path]) -> Path:
    """The checkpoint folder of a run: what it was asked, what it reads, what computes it."""
    digest = hashlib.sha256()
    for word in (
        *words,
        torch.__version__,
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
    ):
        digest.update(word.encode() + b"\0")
    update_with_files(digest, (*inputs, *code_files("train_gan")))
    return ROOT / digest.hexdigest()[:16]


def save(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts to one file, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE}.partial"
    packed = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(packed, partial, metadata={"facts": json.dumps(facts)})
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(folder / FILE)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What was saved last, or None."""
    try:
        with safe_open(folder / FILE, "pt") as stored:
            facts = json.loads(stored.metadata()["facts"])
            return {name: stored.get_tensor(name) for name in stored.keys()}, facts  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return None


def remove(folder: Path) -> None:
    """Forget a run that is complete."""
    discard(folder)
