"""Read a release as it was handed over: its table of slices, and the files of each slice."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from tasks.release import nifti_writer
from tasks.release.checksums import verify_checksums
from tasks.stage.errors import InputError

TEXT: Final = {"name": str, "subject": str, "session": str, "origin": str, "nifti": str}


class RefusedReleaseError(Exception):
    """The folder holds a refusal: there is nothing to export."""


@dataclass(frozen=True)
class Slice:
    """A slice of a release.

    `images` are its NIfTI files, one a channel; `mask` is None where no outline is known. `label`
    is 1 for tumour, 0 for none, -1 where it is not known. `synthetic` tells its origin.
    """

    name: str
    subject: str
    synthetic: bool
    label: int
    images: list[Path]
    mask: Path | None


@dataclass(frozen=True)
class ReleaseFolder:
    """A release: its slices, channels, and what it states about itself."""

    folder: Path
    slices: list[Slice]
    modalities: list[str]
    pixel_mm: float
    summary: dict[str, Any]
    license_words: str

    @property
    def augmented(self) -> bool:
        """Whether it holds patients' slices."""
        return any(not each.synthetic for each in self.slices)

    @property
    def description(self) -> str:
        """What the data set is, in two sentences that go with every copy."""
        if self.augmented:
            return (
                "Slices of patients (pseudonymised, not anonymous: for use inside your institution)"
                " and SYNTHETIC slices drawn by auglift."
            )
        return "SYNTHETIC slices drawn by auglift; none shows a person."

    @property
    def outlined(self) -> list[Slice]:
        """The slices whose tumour, if there is one, is outlined: a segmenter may learn them."""
        return [each for each in self.slices if each.mask is not None]


def read_release(folder: Path) -> ReleaseFolder:
    """Read a release and verify its checksums.

    Raises:
        InputError: when it is no release, or not as it was handed over.
        RefusedReleaseError: when it is a refusal, with its reasons.
    """
    if (folder / "refusal.json").is_file():
        reasons = json.loads((folder / "refusal.json").read_text())["reasons"]
        raise RefusedReleaseError(f"{folder} is a refusal, there is no data: {'; '.join(reasons)}")
    if not (folder / "release.json").is_file():
        raise InputError(
            f"{folder} is no release (no release.json); run `dvc repro`, or give --from a folder"
            " that `auglift release fetch` wrote"
        )
    verify_checksums(folder)
    if not (folder / "slices.csv").is_file():
        raise InputError(f"{folder} has no slices.csv: an older auglift wrote it; release it again")
    table = pd.read_csv(folder / "slices.csv", dtype=TEXT, keep_default_na=False)
    summary = json.loads((folder / "release.json").read_text())
    modalities = summary["modalities"]
    slices = []
    for row in table.to_dict("records"):
        stem = folder / row["nifti"]
        images = [
            stem.with_name(nifti_writer.file_name(stem.name, suffix))
            for suffix in nifti_writer.suffixes(modalities)
        ]
        mask = stem.with_name(nifti_writer.file_name(stem.name, nifti_writer.MASK_SUFFIX))
        known = str(row["mask_known"]) == "True"
        slices.append(
            Slice(
                row["name"], row["subject"], row["origin"] == "synthetic", int(row["label"]),
                images, mask if known else None,
            )
        )  # fmt: skip
    description = json.loads((folder / "bids/dataset_description.json").read_text())
    return ReleaseFolder(
        folder, slices, modalities, float(summary["pixel_mm"]), summary, description["License"]
    )
