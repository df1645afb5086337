"""What the conversion of every patient of a batch needs."""

from dataclasses import dataclass
from pathlib import Path

from tasks.ingest.files_csv import FilesTable
from tasks.ingest.privacy import Pseudonyms
from tasks.ingest.roll import Roll
from tasks.params.ingest import Ingest


@dataclass(frozen=True)
class Plan:
    """The output folder, the list of DICOM files, params, the key, and the owner's tables."""

    folder: Path
    roll: Roll
    settings: Ingest
    names: Pseudonyms
    overrides: list[tuple[str, str]]
    table: FilesTable
