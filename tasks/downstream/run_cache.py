"""Cache finished runs, so that a killed stage resumes after the last one.

They are in a git-ignored `.checkpoints/HASH/`, where HASH covers all that determines a run's
result, and are removed when the stage is complete: keeping results is left to DVC.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch

from tasks.common.stage_code import code_files, update_with_files
from tasks.downstream.train_and_test import RunTables
from tasks.downstream.volume_dice import TestVolume
from tasks.stage.stage_io import discard

CACHE_ROOT = Path(".checkpoints")


def cache_folder(settings: Iterable[str], inputs: Iterable[Path]) -> Path:
    """Return the folder for a stage's runs, named by its settings, inputs, machine and code."""
    digest = hashlib.sha256()
    machine = torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability()
    for setting in (*settings, *machine):
        digest.update(setting.encode() + b"\0")
    update_with_files(digest, (*inputs, *code_files("downstream")))
    return CACHE_ROOT / f"downstream-{digest.hexdigest()[:16]}"


def digest_volumes(volumes: Iterable[TestVolume]) -> str:
    """Return a digest of the test patients' whole volumes, masks and grids.

    It is part of a run's name: volumes hold slices that are not among those of `data/slices`, so
    that they can change where nothing changes there.
    """
    digest = hashlib.sha256()
    for volume in volumes:
        digest.update(f"{volume.subject} {volume.mask.shape} {volume.grid}\n".encode())
        digest.update(volume.images.tobytes())
        digest.update(volume.mask.tobytes())
    return digest.hexdigest()[:16]


def load_or_run(folder: Path, run: Callable[[], RunTables]) -> RunTables:
    """Load a run's tables from an earlier start, or run and cache it for a later start.

    New tables are read back as well, so that both ways give the same bytes.
    """
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        discard(partial)
        partial.mkdir(parents=True)
        for name, table in vars(run()).items():
            table.to_parquet(partial / f"{name}.parquet", index=False)
        partial.replace(folder)
    return RunTables(
        **{name: pd.read_parquet(folder / f"{name}.parquet") for name in RunTables.TABLES}
    )
