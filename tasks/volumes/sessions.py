"""Read from the manifests which volumes are sliced together, and describe the patients."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.schemas.manifest import Manifest
from tasks.stage.errors import InputError

MASK_PRIORITY = {"segmented": 0, "empty": 1, "missing": 2}


@dataclass(frozen=True)
class Session:
    """Volumes that share one grid: a manifest row a modality, in the order of `slices.modalities`.

    `first_slice` continues the slice numbers of the patient's earlier 2D images.
    """

    rows: "list[pd.Series[Any]]"
    first_slice: int = 0

    @property
    def subject(self) -> str:
        """The patient's pseudonym."""
        return str(self.rows[0]["subject"])

    @property
    def name(self) -> str:
        """The visit; empty where the source states none."""
        name = self.rows[0]["session"]
        return "" if pd.isna(name) else str(name)

    @property
    def synthetic(self) -> bool:
        """Whether any volume was marked as synthetic at its source."""
        return any(bool(row["synthetic"]) for row in self.rows)

    @property
    def mask_row(self) -> "pd.Series[Any] | None":
        """The row whose mask counts: one with a tumour before an empty one; None without any mask.

        An empty mask of one modality beside a tumour in another one's means that the tumour was
        outlined there.
        """
        first = min(self.rows, key=lambda row: MASK_PRIORITY[row["mask_status"]])
        return None if first["mask_status"] == "missing" else first

    @property
    def class_label(self) -> int | None:
        """The class folder's label for all slices, 1 tumour or 0 none; None without a folder."""
        labels = (row.get("label") for row in self.rows)
        return next((int(label) for label in labels if not pd.isna(label)), None)

    @property
    def has_tumor(self) -> bool:
        """Whether the session shows a tumour, by its mask, else by its class folder."""
        if self.mask_row is None:
            return self.class_label == 1
        return bool(self.mask_row["mask_status"] == "segmented")

    @property
    def has_tumor_free_slices(self) -> bool:
        """Whether some slices are known to be tumour-free; a single slice cannot be both."""
        if self.mask_row is None:
            return self.class_label == 0
        return int(self.rows[0]["shape"][2]) > 1 or not self.has_tumor


def read_manifests(batches: list[str]) -> pd.DataFrame:
    """Read the listed batches' manifests into one table with `batch` and the volumes' `folder`."""
    tables = []
    for batch in sorted(batches):
        folder = Path("data/volumes") / batch
        table = Manifest.validate(pd.read_parquet(folder / "manifest.parquet"))
        tables.append(table.assign(batch=batch, folder=str(folder)))
    return pd.concat(tables, ignore_index=True)


def group_sessions(
    manifest: pd.DataFrame, modalities: list[str]
) -> tuple[list[Session], list[dict[str, str]]]:
    """Group volumes into sessions with every modality, and list what is left out, with a code.

    Of several volumes of one modality a segmented one is used; 2D images, which have no grid in
    common, are all used.

    Raises:
        InputError: no session has every modality.
    """
    chosen: list[Session] = []
    skipped: list[dict[str, str]] = []
    for key, volumes in manifest.groupby(["subject", manifest["session"].fillna("")], sort=True):
        visit = dict(zip(("subject", "session"), map(str, key), strict=True))
        ranked = volumes.assign(rank=volumes["mask_status"].map(MASK_PRIORITY))
        by_modality = {m: ranked[ranked["modality"] == m] for m in modalities}
        missing = [modality for modality, candidates in by_modality.items() if candidates.empty]
        if missing:
            skipped.append(visit | {"code": "missing-modality", "modality": missing[0]})
            continue
        first = by_modality[modalities[0]]
        if len(modalities) == 1 and (first["source_format"] == "image2d").all():
            chosen += image_sessions(first.sort_values("image"))
            continue
        ranking = {
            m: candidates.sort_values(["rank", "image"]) for m, candidates in by_modality.items()
        }
        chosen.append(Session([candidates.iloc[0] for candidates in ranking.values()]))
        skipped += [
            visit | {"code": "repeated-modality", "modality": modality}
            for modality, candidates in ranking.items()
            for _ in range(len(candidates) - 1)
        ]
    if not chosen:
        available = ", ".join(sorted(manifest["modality"].unique()))
        raise InputError(
            f"no session has all of slices.modalities {modalities}; the manifests hold"
            f" {available}; change slices.modalities or data.batches"
        )
    return chosen, skipped


def skull_stripped(sessions: list[Session]) -> bool | None:
    """Return whether the manifests mark all volumes as skull-stripped; None: unknown."""
    rows = [row for session in sessions for row in session.rows]
    stripped = {"extracted", "stripped before"}
    return True if all(row.get("brain") in stripped for row in rows) else None


def image_sessions(rows: pd.DataFrame) -> list[Session]:
    """Make each of a patient's 2D images a session, and number their slices consecutively."""
    sessions, number = [], 0
    for _, row in rows.iterrows():
        sessions.append(Session([row], first_slice=number))
        number += int(row["shape"][2])
    return sessions


def tabulate_patients(sessions: list[Session], held_out: Collection[str] = ()) -> pd.DataFrame:
    """Tabulate per patient what the split is stratified by and what each partition must contain.

    Args:
        sessions: of all patients.
        held_out: the patients who test and nobody else.
    """
    table = pd.DataFrame(
        {
            "subject": [session.subject for session in sessions],
            "site": [session.rows[0]["site"] for session in sessions],
            "tumor": [session.has_tumor for session in sessions],
            "clear": [session.has_tumor_free_slices for session in sessions],
            "synthetic": [session.synthetic for session in sessions],
            "held_out": [session.subject in held_out for session in sessions],
        }
    )
    return table.groupby("subject", as_index=False).agg(
        {"site": "first", "tumor": "any", "clear": "any", "synthetic": "any", "held_out": "any"}
    )
