"""Finished runs of a stage that was killed, so that the next start takes up behind them.

They lie in a git-ignored `.checkpoints/HASH/`, where HASH is of all that decides a run's result,
and are removed when the stage is complete: to keep results is DVC's affair alone.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch

from tasks.common.stage_code import code_files, update_with_files
from tasks.downstream.train_and_test import Run
from tasks.stage.stage_io import discard

ROOT = Path(".checkpoints")


def folder_of(words: Iterable[str], inputs: Iterable[Path]) -> Path:
    """The folder for the runs of a stage: what it was asked, what it reads, what computes it."""
    digest = hashlib.sha256()
    machine = torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability()
    for word in (*words, *machine):
        digest.update(word.encode() + b"\0")
    update_with_files(digest, (*inputs, *code_files("downstream")))
    return ROOT / f"downstream-{digest.hexdigest()[:16]}"


def load_or_run(folder: Path, make: Callable[[], Run]) -> Run:
    """A run's tables: those that an earlier start left, or new ones, left for a later start.

    New ones are read back as well, so that both ways give the same bytes.
    """
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        discard(partial)
        partial.mkdir(parents=True)
        for name, table in vars(make()).items():
            table.to_parquet(partial / f"{name}.parquet", index=False)
        partial.replace(folder)
    return Run(**{name: pd.read_parquet(folder / f"{name}.parquet") for name in Run.TABLES})
