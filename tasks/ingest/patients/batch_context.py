"""What the conversion of every patient of a batch needs."""

from dataclasses import dataclass
from pathlib import Path

from tasks.ingest.files.dicom_index import DicomFileIndex
from tasks.ingest.privacy.pseudonyms import Pseudonyms
from tasks.ingest.user_tables.files_csv import FilesTable
from tasks.params.ingest import Ingest


@dataclass(frozen=True)
class BatchContext:
    """The output folder, the list of DICOM files, params, the key, and the owner's tables."""

    folder: Path
    roll: DicomFileIndex
    settings: Ingest
    names: Pseudonyms
    overrides: list[tuple[str, str]]
    table: FilesTable
