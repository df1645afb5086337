"""What a worker needs to know of its batch to read and convert one patient."""

from dataclasses import dataclass
from pathlib import Path

from tasks.ingest.files.dicom_index import DicomFileIndex
from tasks.ingest.privacy.pseudonyms import Pseudonyms
from tasks.ingest.user_tables.files_csv import FilesTable
from tasks.params.ingest import Ingest


@dataclass(frozen=True)
class BatchContext:
    """The same for all patients of a batch; it is sent to a worker with each patient.

    Volumes are written below `output_folder`. `series_modalities` holds the pairs of `series.csv`,
    `files_table` those of `files.csv`.
    """

    output_folder: Path
    dicom_files: DicomFileIndex
    settings: Ingest
    pseudonyms: Pseudonyms
    series_modalities: list[tuple[str, str]]
    files_table: FilesTable
