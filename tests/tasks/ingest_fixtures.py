"""A folder in which a test runs the stage ingest and reads its outputs."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from tasks.ingest.__main__ import main


def map_in_this_process(
    work: Callable[[Any], Any], tasks: Iterable[Any], **_: object
) -> Generator[tuple[Any, Any]]:
    """Stand for `worker_pool.map_in_workers`: to fork a test's process takes most of an ingest."""
    for task in tasks:
        yield task, work(task)


@dataclass
class IngestWorkspace:
    """The current folder of a test, with `data/raw/b` to fill.

    `in_workers`: whether the stage starts its worker processes, for files that may end one.
    """

    root: Path
    in_workers: bool = False

    @property
    def raw(self) -> Path:
        return self.root / "data/raw/b"

    @property
    def volumes(self) -> Path:
        return self.root / "data/volumes/b"

    def ingest(self, **settings: Any) -> pd.DataFrame:
        """Run the stage and return its manifest."""
        self.raw.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump({"data": {"batches": ["b"]}, "ingest": settings})
        (self.root / "params.yaml").write_text(text)
        if self.in_workers:
            main("b")
        else:
            with (
                mock.patch("tasks.ingest.__main__.map_in_workers", map_in_this_process),
                mock.patch(
                    "tasks.ingest.patients.identify_files.map_in_workers", map_in_this_process
                ),
            ):
                main("b")
        return self.manifest()

    def manifest(self) -> pd.DataFrame:
        return pd.read_parquet(self.volumes / "manifest.parquet")

    def codes(self) -> list[str]:
        return sorted(pd.read_parquet(self.volumes / "rejected.parquet").code)

    def private(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.root / ".private" / f"{name}-b.csv")

    def load(self, path: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
        image = nib.load(self.volumes / path)
        return np.asanyarray(image.dataobj), image.affine

    def accounts_for_every_file(self) -> bool:
        """Whether each file of the batch has exactly one outcome."""
        files = sorted(
            path.relative_to(self.raw).as_posix() for path in self.raw.rglob("*") if path.is_file()
        )
        outcomes = self.private("files").path
        return sorted(outcomes[~outcomes.str.contains("!/", regex=False)]) == files


def canonical(data: NDArray[Any], affine: NDArray[np.float64]) -> nib.Nifti1Image:
    """nibabel's own reorientation, the oracle for ours."""
    return nib.as_closest_canonical(nib.Nifti1Image(data, affine))


def assert_volume_equals(
    workspace: IngestWorkspace, path: str, pixels: np.ndarray, affine: np.ndarray
) -> None:
    expected = canonical(np.transpose(pixels, (2, 1, 0)).astype(np.float64), affine)
    data, found = workspace.load(path)
    assert np.abs(found - expected.affine).max() < 1e-4
    assert np.array_equal(data, expected.get_fdata())
