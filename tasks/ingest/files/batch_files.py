"""The files of a batch sorted by format, zip archives unpacked, DICOM files on a list on disk."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.files.dicom_index import DicomFileIndex
from tasks.ingest.files.list_files import (
    FileKind,
    checked_file_size,
    detect_format,
    is_hidden,
    is_tool_file,
    list_files,
)
from tasks.ingest.files.zip_archives import unpack_archive
from tasks.params.ingest import Ingest

Reject = Callable[[Iterable[Rejection]], None]


def list_batch_files(
    folder: Path, unpacked: Path, dicom_files: DicomFileIndex, settings: Ingest, reject: Reject
) -> dict[FileKind, list[Source]]:
    """List the files of a batch by format; archives are unpacked into folders below `unpacked`.

    DICOM files, which may be very many, are written to the index on disk instead.
    """
    files: dict[FileKind, list[Source]] = defaultdict(list)
    with dicom_files.open_for_writing() as add_dicom_file:

        def sort(sources: Iterable[Source], root: Path) -> None:
            for source in sources:
                if is_tool_file(source.name):
                    files["metadata"].append(source)
                    continue
                hidden = is_hidden(source.name)
                try:
                    sized = Source(
                        source.location,
                        source.name_in_archive,
                        source.name_start,
                        checked_file_size(source, root),
                    )
                    file_format = detect_format(sized)
                    if hidden and file_format != "metadata":
                        raise RejectionError("hidden-file", "a name that begins with a dot")
                except RejectionError as error:
                    if hidden and error.code in ("unknown-format", "empty-file"):
                        files["metadata"].append(source)
                    else:
                        reject([Rejection((source,), error.code, error.reason)])
                    continue
                if file_format == "dicom":
                    add_dicom_file(sized)
                else:
                    files[file_format].append(sized)

        sort(list_files(folder), folder)
        archives = files.pop("archive", [])
        for number, archive in enumerate(archives):
            inside = unpacked / str(number)
            sources, rejected = unpack_archive(archive, inside, settings.max_archive_bytes)
            reject(rejected)
            if not any(archive in rejection.sources for rejection in rejected):
                files["archive"].append(archive)
            sort(sources, inside)
    return files
