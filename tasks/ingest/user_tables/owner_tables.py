"""Read every table in which a batch's owner describes the batch.

This is the only entry to the owner's tables; the other modules of the package each read one.
"""

from dataclasses import dataclass
from pathlib import Path

from tasks.ingest.user_tables.files_csv import FilesTable, read_files_table
from tasks.ingest.user_tables.older_tables import read_images2d_table, read_series_modalities
from tasks.ingest.user_tables.participants_tsv import read_sites


@dataclass(frozen=True)
class OwnerTables:
    """The tables of one batch, each empty where its file is missing.

    `files` is `files.csv`. `series_modalities` are the pairs of series and modality of
    `series.csv`. `images2d` holds patient and slice number by path from `pictures.csv`. `sites`
    holds the site by patient ID from `participants.tsv`.
    """

    files: FilesTable
    series_modalities: list[tuple[str, str]]
    images2d: dict[str, tuple[str, int | None]]
    sites: dict[str, str]


def read_owner_tables(folder: Path) -> OwnerTables:
    """Read the owner's tables from the batch's folder.

    Raises:
        InputError: a table has other columns or values than its module describes.
    """
    return OwnerTables(
        files=read_files_table(folder),
        series_modalities=read_series_modalities(folder),
        images2d=read_images2d_table(folder),
        sites=read_sites(folder),
    )
