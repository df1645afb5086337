"""Describe NIfTI files as images and masks of patients, by names, sidecars and `files.csv`."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.common.synthetic_marks import is_marked_json, is_marked_name
from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source, content_digest
from tasks.ingest.filenames.parse_filenames import (
    ParsedFilename,
    Sidecars,
    best_mask_ranks,
    parse_filenames,
)
from tasks.ingest.user_tables.files_csv import (
    OWNER_EVIDENCE,
    OWNER_SKIPS,
    FilesRow,
    FilesTable,
    apply_modality,
)

OTHER_MASK = ("not-a-tumour-mask", "the name speaks of another structure")
LAYOUT_SKIPS = ("skipped", "the layout keeps it beside the scan itself, in another form")
WORSE_MASK = ("skipped", "the layout holds a better outline of the same scan")
DUPLICATE = ("duplicate", "a file of equal name and bytes of the same scan lies in another folder")


def find_nifti_scans(
    sources: Sequence[Source],
    metadata: Sequence[Source],
    table: FilesTable,
    *,
    allow_unknown: bool,
    allow_synthetic: bool,
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Return the scans and the rejections of a batch's NIfTI files; each file is in one of them."""
    sidecars = Sidecars({file.name: file.path for file in metadata if file.name.endswith(".json")})
    names = parse_filenames([source.name for source in sources], sidecars)
    rows = {source.name: table.rows_by_channel(source.name) for source in sources} if table else {}
    described = {path: apply_row(name, rows.get(path)) for path, name in names.items()}
    ranks = best_mask_ranks(described.values())
    duplicates = find_duplicates(sources, described)
    scans: list[ScanRecord] = []
    rejected: list[Rejection] = []
    for source in sources:
        name, file_rows = described[source.name], rows.get(source.name) or []
        rejection = rejection_of(name, names[source.name], file_rows, ranks, allow_unknown)
        marks = [] if allow_synthetic else synthetic_marks(source.name, sidecars)
        if marks and (rejection is None or rejection[0] != "skipped"):
            rejection = "synthetic", f"marked by {' and '.join(marks)}"
        if rejection is None and source.name in duplicates:
            rejection = DUPLICATE
        if rejection is not None:
            rejected.append(Rejection((source,), *rejection))
        else:
            scans += make_scan_records(source, name, names[source.name], file_rows, sidecars)
    return scans, rejected


def apply_row(name: ParsedFilename, rows: list[FilesRow] | None) -> ParsedFilename:
    """Override a parsed name by the first row of `files.csv` for the file."""
    if not rows:
        return name
    row = rows[0]
    changes: dict[str, object] = {}
    if row.patient is not None:
        changes |= {"patient": row.patient, "rejection": None}
    if row.session is not None:
        changes["session"] = row.session
    if row.role is not None:
        changes["role"] = row.role
        changes["stem"] = name.stem
    return replace(name, **changes)  # type: ignore[arg-type]


def rejection_of(
    name: ParsedFilename,
    parsed: ParsedFilename,
    rows: list[FilesRow],
    ranks: Mapping[tuple[str, str | None], int],
    allow_unknown: bool,
) -> tuple[str, str] | None:
    """Return the code and reason for which a file is no scan; None where it is one.

    `parsed` is the parsed name without the owner's rows; `name` includes them.
    """
    owner_role = rows[0].role if rows else None
    if name.role in ("skip", "other-mask"):
        if parsed.role == "other-mask":
            return OTHER_MASK
        if parsed.role == "mask" and is_worse_mask(parsed, ranks):
            return WORSE_MASK
        return LAYOUT_SKIPS if parsed.role == "skip" else OWNER_SKIPS
    if name.rejection is not None and not allow_unknown:
        return name.rejection
    if owner_role is None and name.role == "mask" and is_worse_mask(name, ranks):
        return WORSE_MASK
    return None


def is_worse_mask(name: ParsedFilename, ranks: Mapping[tuple[str, str | None], int]) -> bool:
    """Check whether the same scan has a mask of a lower rank."""
    return name.rank > ranks.get((name.patient, name.session), name.rank)


def make_scan_records(
    source: Source,
    name: ParsedFilename,
    parsed: ParsedFilename,
    rows: list[FilesRow],
    sidecars: Sidecars,
) -> list[ScanRecord]:
    """Describe a file as an image or a mask, or as one image a channel.

    `parsed` is the parsed name without the owner's rows; `name` includes them.
    """
    base = ScanRecord(
        role="mask" if name.role == "mask" else "image",
        format="nifti",
        sources=(source,),
        patient=name.patient,
        patient_known=name.rejection is None,
        session=name.session,
        session_order=natural_sort_key(name.session or ""),
        stem=name.stem,
        modality=name.modality,
        evidence=name.evidence,
        synthetic=bool(synthetic_marks(source.name, sidecars)),
        label_convention=name.labels if name.role == "mask" else None,
    )
    if base.role == "mask" and rows and (parsed.rejection is not None or parsed.role != "mask"):
        base = replace(base, evidence=OWNER_EVIDENCE)  # the owner's row overrides the name
    by_channel = dict(parsed.channels)
    channels = [row.channel for row in rows if row.channel is not None] or list(by_channel)
    if base.role == "mask" or not channels:
        return [apply_modality(base, rows[0].modality if rows else None)]
    scans = []
    for channel in channels:
        row = next((row for row in rows if row.channel == channel), rows[0] if rows else None)
        scan = replace(base, channel=channel)
        if channel in by_channel:
            scan = replace(scan, modality=by_channel[channel], evidence=name.evidence)
        scans.append(apply_modality(scan, row.modality if row else None))
    return scans


def natural_sort_key(session: str) -> str:
    """Pad the numbers of a visit's name, so that `week-2` sorts before `week-10`."""
    return re.sub(r"\d+", lambda number: number[0].rjust(10, "0"), session)


def find_duplicates(sources: Sequence[Source], names: Mapping[str, ParsedFilename]) -> set[str]:
    """Return the files that equal an earlier file of the same scan and name.

    Of equal files the one with the shortest path is kept.
    """
    same_name: dict[tuple[object, ...], list[Source]] = defaultdict(list)
    for source in sources:
        name = names[source.name]
        filename = source.name.rpartition("/")[2]
        same_name[name.patient, name.session, name.role, filename, source.size].append(source)
    duplicates: set[str] = set()
    for group in same_name.values():
        if len(group) > 1:
            seen: set[bytes] = set()
            for source in sorted(group, key=lambda source: (len(source.name), source.name)):
                digest = content_digest(source)
                if digest in seen:
                    duplicates.add(source.name)
                seen.add(digest)
    return duplicates


def synthetic_marks(path: str, sidecars: Sidecars) -> list[str]:
    """Name the marks that a file's name and the JSON files for it bear; none for most files."""
    marks = {
        "its name": is_marked_name(path),
        "a JSON file": any(map(is_marked_json, sidecars.for_image(path))),
    }
    return [name for name, there in marks.items() if there]
