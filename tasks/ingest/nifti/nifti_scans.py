"""NIfTI files as images and masks of patients, by their names, sidecars and `files.csv`."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from tasks.ingest.core.mr_contrast import Modality
from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source, content_digest
from tasks.ingest.filenames.recognise import ParsedFilename, Sidecars, best_masks, recognise
from tasks.ingest.user_tables.files_csv import EVIDENCE, FilesTable, Row

SYNTHETIC_KEYS = ("SyntheticData", "Synthetic")
OTHER_MASK = ("not-a-tumour-mask", "the name speaks of another structure")
OWNER_SKIPS = ("skipped", "files.csv says so")
LAYOUT_SKIPS = ("skipped", "the layout keeps it beside the scan itself, in another form")
WORSE_MASK = ("skipped", "the layout holds a better outline of the same scan")
COPY = ("duplicate", "a file of equal name and bytes of the same scan lies in another folder")


def survey(
    sources: Sequence[Source], metadata: Sequence[Source], table: FilesTable, *, allow_unknown: bool
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Images, masks and rejections of a batch's NIfTI files; each file is in one of them."""
    sidecars = Sidecars({one.name: one.path for one in metadata if one.name.endswith(".json")})
    names = recognise([source.name for source in sources], sidecars)
    rows = {source.name: table.by_channel(source.name) for source in sources} if table else {}
    told = {path: with_row(name, rows.get(path)) for path, name in names.items()}
    ranks = best_masks(told.values())
    copies = copies_of(sources, told)
    found: list[ScanRecord] = []
    rejected: list[Rejection] = []
    for source in sources:
        name, statements = told[source.name], rows.get(source.name) or []
        trouble = trouble_of(name, names[source.name], statements, ranks, allow_unknown)
        if trouble is None and source.name in copies:
            trouble = COPY
        if trouble is not None:
            rejected.append(Rejection((source,), *trouble))
        else:
            found += as_found(source, name, names[source.name], statements, sidecars)
    return found, rejected


def with_row(name: ParsedFilename, rows: list[Row] | None) -> ParsedFilename:
    """What a name says, where the owner says nothing else."""
    if not rows:
        return name
    row = rows[0]
    changes: dict[str, object] = {}
    if row.patient is not None:
        changes |= {"patient": row.patient, "trouble": None}
    if row.session is not None:
        changes["session"] = row.session
    if row.role is not None:
        changes["role"] = row.role
        changes["stem"] = name.stem
    return replace(name, **changes)  # type: ignore[arg-type]


def trouble_of(
    name: ParsedFilename,
    read: ParsedFilename,
    rows: list[Row],
    ranks: Mapping[tuple[str, str | None], int],
    allow_unknown: bool,
) -> tuple[str, str] | None:
    """Why a file is no scan: a code and a reason; None where it is one.

    `read` is what the name says without the owner, whose word is in `name` already.
    """
    said = rows[0].role if rows else None
    if name.role in ("skip", "other-mask"):
        if read.role == "other-mask":
            return OTHER_MASK
        if read.role == "mask" and is_worse(read, ranks):
            return WORSE_MASK
        return LAYOUT_SKIPS if read.role == "skip" else OWNER_SKIPS
    if name.trouble is not None and not allow_unknown:
        return name.trouble
    if said is None and name.role == "mask" and is_worse(name, ranks):
        return WORSE_MASK
    return None


def is_worse(name: ParsedFilename, ranks: Mapping[tuple[str, str | None], int]) -> bool:
    """Whether the same scan has a mask of a lower rank."""
    return name.rank > ranks.get((name.patient, name.session), name.rank)


def as_found(
    source: Source, name: ParsedFilename, read: ParsedFilename, rows: list[Row], sidecars: Sidecars
) -> list[ScanRecord]:
    """A file as an image or a mask, or as one image a channel."""
    base = ScanRecord(
        role="mask" if name.role == "mask" else "image",
        format="nifti",
        sources=(source,),
        patient=name.patient,
        patient_known=name.trouble is None,
        session=name.session,
        when=natural(name.session or ""),
        stem=name.stem,
        modality=name.modality,
        evidence=name.evidence,
        synthetic=is_marked_synthetic(sidecars.beside(source.name)),
        label_convention=name.labels if name.role == "mask" else None,
    )
    if base.role == "mask" and rows and (read.trouble is not None or read.role != "mask"):
        base = replace(base, evidence=EVIDENCE)  # the owner knows better than the name
    by_channel = dict(read.channels)
    channels = [row.channel for row in rows if row.channel is not None] or list(by_channel)
    if base.role == "mask" or not channels:
        return [with_modality(base, rows[0].modality if rows else None)]
    found = []
    for channel in channels:
        row = next((row for row in rows if row.channel == channel), rows[0] if rows else None)
        one = replace(base, channel=channel)
        if channel in by_channel:
            one = replace(one, modality=by_channel[channel], evidence=name.evidence)
        found.append(with_modality(one, row.modality if row else None))
    return found


def with_modality(one: ScanRecord, said: str | None) -> ScanRecord:
    """The owner's contrast; where it is the one that was read anyway, its evidence stays."""
    if said is None or said == one.modality:
        return one
    return replace(one, modality=cast(Modality, said), evidence=EVIDENCE)


def natural(session: str) -> str:
    """A visit's name that sorts by its numbers: `week-2` before `week-10`."""
    return re.sub(r"\d+", lambda number: number[0].rjust(10, "0"), session)


def copies_of(sources: Sequence[Source], names: Mapping[str, ParsedFilename]) -> set[str]:
    """Files of which an equal one, of the same scan and with the same name, comes before."""
    alike: dict[tuple[object, ...], list[Source]] = defaultdict(list)
    for source in sources:
        name = names[source.name]
        last = source.name.rpartition("/")[2]
        alike[name.patient, name.session, name.role, last, source.size].append(source)
    copies: set[str] = set()
    for group in alike.values():
        if len(group) > 1:
            seen: set[bytes] = set()
            for source in sorted(group, key=lambda one: (len(one.name), one.name)):
                found = content_digest(source)
                if found in seen:
                    copies.add(source.name)
                seen.add(found)
    return copies


def is_marked_synthetic(sidecar: Mapping[str, object]) -> bool:
    """Whether a JSON sidecar marks the image as synthetic, as DICOM (0008,001C) does."""
    return any(str(sidecar.get(key, "")).upper() in ("YES", "TRUE") for key in SYNTHETIC_KEYS)
