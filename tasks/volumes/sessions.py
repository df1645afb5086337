"""Which volumes are cut together, and who the patients are: read from the manifests alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.schemas.manifest import Manifest
from tasks.stage.errors import InputError

MASKED_FIRST = {"segmented": 0, "empty": 1, "missing": 2}


@dataclass(frozen=True)
class Session:
    """What shares one grid: a manifest row a modality, in the order of `slices.modalities`.

    `first_slice` numbers its slices on from those of the patient's earlier pictures.
    """

    rows: "list[pd.Series[Any]]"
    first_slice: int = 0

    @property
    def subject(self) -> str:
        """The patient's pseudonym."""
        return str(self.rows[0]["subject"])

    @property
    def name(self) -> str:
        """The visit; empty where the source names none."""
        name = self.rows[0]["session"]
        return "" if pd.isna(name) else str(name)

    @property
    def synthetic(self) -> bool:
        """Whether any of it was marked as synthetic at its source."""
        return any(bool(row["synthetic"]) for row in self.rows)

    @property
    def mask_row(self) -> "pd.Series[Any] | None":
        """The row whose mask counts: one with a tumour before an empty one; None without any.

        An empty mask of one modality beside a tumour in another one's means that the tumour was
        outlined there.
        """
        first = min(self.rows, key=lambda row: MASKED_FIRST[row["mask_status"]])
        return None if first["mask_status"] == "missing" else first

    @property
    def class_label(self) -> int | None:
        """What a class folder says of all its slices, 1 tumour or 0 none."""
        given = (row.get("label") for row in self.rows)
        return next((int(label) for label in given if not pd.isna(label)), None)

    @property
    def tumor(self) -> bool:
        """Whether it shows a tumour, by its mask, else by its class folder."""
        if self.mask_row is None:
            return self.class_label == 1
        return bool(self.mask_row["mask_status"] == "segmented")

    @property
    def clear(self) -> bool:
        """Whether it has slices known to be free of tumour; one slice cannot show both."""
        if self.mask_row is None:
            return self.class_label == 0
        return int(self.rows[0]["shape"][2]) > 1 or not self.tumor


def read_manifests(batches: list[str]) -> pd.DataFrame:
    """The manifests of the listed batches in one table, with `batch` and the volumes' `folder`."""
    tables = []
    for batch in sorted(batches):
        folder = Path("data/volumes") / batch
        table = Manifest.validate(pd.read_parquet(folder / "manifest.parquet"))
        tables.append(table.assign(batch=batch, folder=str(folder)))
    return pd.concat(tables, ignore_index=True)


def sessions_of(
    manifest: pd.DataFrame, modalities: list[str]
) -> tuple[list[Session], list[dict[str, str]]]:
    """The sessions that have every modality, and what is left out, each with a code.

    Of several volumes of one modality a segmented one is taken; pictures, which stand alone,
    are all taken.

    Raises:
        StageError: when no session has every modality.
    """
    chosen: list[Session] = []
    skipped: list[dict[str, str]] = []
    for key, volumes in manifest.groupby(["subject", manifest["session"].fillna("")], sort=True):
        named = dict(zip(("subject", "session"), map(str, key), strict=True))
        ranked = volumes.assign(rank=volumes["mask_status"].map(MASKED_FIRST))
        of = {m: ranked[ranked["modality"] == m] for m in modalities}
        missing = [modality for modality, found in of.items() if found.empty]
        if missing:
            skipped.append(named | {"code": "missing-modality", "modality": missing[0]})
            continue
        only = of[modalities[0]]
        if len(modalities) == 1 and (only["source_format"] == "image2d").all():
            chosen += pictures(only.sort_values("image"))
            continue
        best = {m: found.sort_values(["rank", "image"]) for m, found in of.items()}
        chosen.append(Session([found.iloc[0] for found in best.values()]))
        skipped += [
            named | {"code": "repeated-modality", "modality": modality}
            for modality, found in best.items()
            for _ in range(len(found) - 1)
        ]
    if not chosen:
        held = ", ".join(sorted(manifest["modality"].unique()))
        raise InputError(
            f"no session has all of slices.modalities {modalities}; the manifests hold"
            f" {held}; change slices.modalities or data.batches"
        )
    return chosen, skipped


def skull_stripped(sessions: list[Session]) -> bool | None:
    """Whether all volumes show brains without skulls, by the manifests; None: not known."""
    rows = [row for session in sessions for row in session.rows]
    stripped = {"extracted", "stripped before"}
    return True if all(row.get("brain") in stripped for row in rows) else None


def pictures(rows: pd.DataFrame) -> list[Session]:
    """A patient's pictures, each a session of its own, their slices numbered through."""
    found, number = [], 0
    for _, row in rows.iterrows():
        found.append(Session([row], first_slice=number))
        number += int(row["shape"][2])
    return found


def patients_of(sessions: list[Session]) -> pd.DataFrame:
    """One row a patient: what the split is stratified by, and what each side of it must have."""
    table = pd.DataFrame(
        {
            "subject": [session.subject for session in sessions],
            "site": [session.rows[0]["site"] for session in sessions],
            "tumor": [session.tumor for session in sessions],
            "clear": [session.clear for session in sessions],
            "synthetic": [session.synthetic for session in sessions],
        }
    )
    return table.groupby("subject", as_index=False).agg(
        {"site": "first", "tumor": "any", "clear": "any", "synthetic": "any"}
    )
