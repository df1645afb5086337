"""Read what would be released: the accepted synthetic slices of all folds, verdicts, a digest."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.fold_digest import hash_candidate
from tasks.common.slice_set import read_slice_set
from tasks.schemas.metrics import GateMetrics, read_metrics
from tasks.schemas.samples import GatedSamples
from tasks.stage.errors import InputError
from tasks.stage.stage_io import explain_read_errors

SYNTHETIC, GATE = Path("data/synthetic"), Path("data/gate")
PHANTOM = "phantom"  # the batch that the pipeline simulates, data/raw/phantom
SIMULATED = "simulated patients (the phantom)"


def describe_patients(batches: Iterable[str]) -> str:
    """Say in words of whom the slices of these batches are; the phantom's are simulated."""
    names = set(batches)
    if PHANTOM not in names:
        return "real patients"
    return SIMULATED if names == {PHANTOM} else f"real patients and of {SIMULATED}"


@dataclass(frozen=True)
class ReleaseCandidate:
    """The evaluated synthetic slices of all folds, stacked in the order of the folds.

    `images` (N,C,H,W) float32 in [-1,1]; `masks` (N,H,W) uint8 in {0,1}; `samples` N rows: the
    gate's table with a column `fold`. `digest` identifies exactly these slices and this gate
    result, so that a reviewer's approval cannot pass to others; `fold_digests` name each fold's for
    readers.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8]
    samples: pd.DataFrame
    gates: dict[str, GateMetrics]
    digest: str
    fold_digests: dict[str, str]

    @property
    def accepted(self) -> bool:
        """Whether the gate accepted every fold."""
        return all(gate.verdict == "accepted" for gate in self.gates.values())

    @property
    def reasons_not_releasable(self) -> list[str]:
        """Why these slices are not for release, whatever the verdict; empty where they are."""
        return sorted(
            {
                f"not for release: {gate.not_releasable or 'their maker gives no reason'}"
                for gate in self.gates.values()
                if not gate.releasable
            }
        )

    @property
    def reasons(self) -> list[str]:
        """The gate's reasons for a rejection, in words; with several folds each names its own."""
        several = len(self.gates) > 1
        return [
            f"fold {fold}: {reason}" if several else reason
            for fold, gate in self.gates.items()
            if gate.verdict == "rejected"
            for reason in gate.reasons or ["the gate gave no reason"]
        ]


def read_candidate(folds: list[str]) -> ReleaseCandidate:
    """Read `data/synthetic` and `data/gate` of the listed folds.

    Raises:
        InputError: a fold's gate evaluated other rows than `data/synthetic` holds.
    """
    images, masks, samples, gates = [], [], [], {}
    digest, fold_digests = hashlib.sha256(), {}
    for fold in folds:
        slices = read_slice_set(SYNTHETIC / fold, "samples.parquet")
        with explain_read_errors(GATE / fold / "samples.parquet"):
            judged = GatedSamples.validate(pd.read_parquet(GATE / fold / "samples.parquet"))
        if not np.array_equal(judged["row"], np.arange(len(slices))):
            raise InputError(
                f"data/gate/{fold} judged {len(judged)} rows, data/synthetic/{fold} holds"
                f" {len(slices)}; run `dvc repro gate@{fold}`"
            )
        gates[fold] = read_metrics(GateMetrics, GATE / fold / "metrics.json")
        images.append(slices.images)
        masks.append((slices.masks > 0).astype(np.uint8))
        samples.append(judged.assign(fold=fold))
        hashes, fold_digests[fold] = hash_candidate(SYNTHETIC / fold, GATE / fold)
        digest.update(hashes)
    return ReleaseCandidate(
        np.concatenate(images),
        np.concatenate(masks),
        pd.concat(samples, ignore_index=True),
        gates,
        digest.hexdigest(),
        fold_digests,
    )
