"""`ingest@BATCH`: what hospitals and archives hold becomes canonical volumes and two tables.

Reads `data/raw/BATCH/`; writes `data/volumes/BATCH/` (NIfTI in RAS+ orientation,
`manifest.parquet`, `rejected.parquet`). Each file of the batch ends as a volume, a mask, known
metadata or a refusal with a code; `.private/` tells which, by its true path.
"""

from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from tasks import params, stage
from tasks.ingest import nifti, series, tables
from tasks.ingest.found import Found, Rejection
from tasks.ingest.headers import read_header
from tasks.ingest.inventory import Kind, Source, kind_of, walk
from tasks.ingest.patient import Converted, Patient, convert
from tasks.ingest.people import read_sites, site_of
from tasks.ingest.privacy import Pseudonyms, load_key, write_private
from tasks.ingest.refusal import REMEDIES, RefusalError
from tasks.params.ingest import Ingest
from tasks.stage import StageError

RAW = Path("data/raw")
VOLUMES = Path("data/volumes")


def main(batch: str) -> None:
    """Ingest one batch."""
    settings = params.read(Ingest)
    folder = RAW / batch
    if not folder.is_dir():
        raise StageError(
            f"{folder} is not there; data.batches in params.yaml lists {batch!r}: put its files"
            " into that folder, or take it out of the list"
        )
    names = Pseudonyms(load_key(settings.key_fingerprint))
    kinds, rejected = take_stock(folder)
    found, refused = survey(kinds, settings)
    rejected += refused
    patients = by_patient(found, read_sites(folder), names)
    with stage.output(VOLUMES / batch) as volumes:
        total = Converted(rejected=rejected)
        for patient in tqdm(patients, desc=f"ingest@{batch}", unit="patient", disable=None):
            one = convert(patient, volumes, settings)
            total.rows += one.rows
            total.rejected += one.rejected
            total.used += one.used
        total.used += [(source.name, "metadata") for source in kinds["metadata"]]
        account(batch, total, names)
        if not total.rows:
            raise StageError(nothing_read(folder, batch, total))
        tables.write_manifest(volumes / "manifest.parquet", total.rows)
        tables.write_rejected(volumes / "rejected.parquet", reject_rows(total.rejected, names))
    print(f"ingest@{batch}: {summary(total)}")


def take_stock(folder: Path) -> tuple[dict[Kind, list[Source]], list[Rejection]]:
    """The batch's files by kind, and those that are of none."""
    kinds: dict[Kind, list[Source]] = defaultdict(list)
    rejected: list[Rejection] = []
    for source in walk(folder):
        try:
            kind = kind_of(source, folder)
        except RefusalError as refusal:
            rejected.append(Rejection((source,), refusal.code, refusal.reason))
        else:
            kinds["metadata" if kind == "dicomdir" else kind].append(source)
    return kinds, rejected


def survey(
    kinds: dict[Kind, list[Source]], settings: Ingest
) -> tuple[list[Found], list[Rejection]]:
    """Images and masks of all formats, by headers and names, before any pixel is read."""
    headers = []
    rejected: list[Rejection] = []
    for source in kinds["dicom"]:
        try:
            headers.append(read_header(source))
        except RefusalError as refusal:
            rejected.append(Rejection((source,), refusal.code, refusal.reason))
    dicom_found, dicom_rejected = series.survey(
        headers, min_slices=settings.min_slices, allow_burned_in=settings.allow_burned_in
    )
    nifti_found, nifti_rejected = nifti.survey(kinds["nifti"])
    rejected += dicom_rejected + nifti_rejected
    rejected += [
        Rejection((source,), "patient-unknown", "a 2D picture names no patient")
        for source in kinds["image2d"]
    ]
    return dicom_found + nifti_found, rejected


def by_patient(found: list[Found], sites: dict[str, str], names: Pseudonyms) -> list[Patient]:
    """Patients in the order of their pseudonyms, each with images and masks by name."""
    groups: dict[str, list[Found]] = defaultdict(list)
    for one in sorted(found, key=lambda one: one.name):
        groups[names.subject(one.patient)].append(one)
    patients = []
    for subject, group in sorted(groups.items()):
        equipment = next((one.equipment for one in group if one.equipment.strip("|")), "")
        patients.append(
            Patient(
                subject=subject,
                site=site_of(group[0].patient, equipment, sites, names),
                images=tuple(one for one in group if one.role == "image"),
                masks=tuple(one for one in group if one.role == "mask"),
            )
        )
    return patients


def reject_rows(rejected: list[Rejection], names: Pseudonyms) -> list[dict[str, str]]:
    """One row a refused file or series, under the token of its first file."""
    return [
        {
            "token": names.token(one.sources[0].name),
            "code": one.code,
            "reason": one.reason,
            "remedy": REMEDIES[one.code],
        }
        for one in rejected
    ]


def account(batch: str, total: Converted, names: Pseudonyms) -> None:
    """Write into `.private/` what became of every file, with its true path."""
    refused = [
        (names.token(one.sources[0].name), source.name, one.code)
        for one in total.rejected
        for source in one.sources
    ]
    write_private(f"rejected-{batch}.csv", ("token", "path", "code"), sorted(refused))
    used = [*total.used, *((path, "rejected") for _, path, _ in refused)]
    write_private(f"files-{batch}.csv", ("path", "outcome"), sorted(used))


def nothing_read(folder: Path, batch: str, total: Converted) -> str:
    """One line for a batch of which nothing could be read."""
    counts: dict[str, int] = defaultdict(int)
    for one in total.rejected:
        counts[one.code] += 1
    found = ", ".join(f"{count} {code}" for code, count in sorted(counts.items())) or "no files"
    return (
        f"{folder}: no volume could be read ({found}); .private/rejected-{batch}.csv names the"
        " files; add readable DICOM or NIfTI, or take the batch out of data.batches"
    )


def summary(total: Converted) -> str:
    """Counts for the log; no names."""
    subjects = {row["subject"] for row in total.rows}
    masks = sum(row["mask"] is not None for row in total.rows)
    return (
        f"{len(subjects)} patients, {len(total.rows)} volumes, {masks} with a mask,"
        f" {len(total.rejected)} refused"
    )


if __name__ == "__main__":
    stage.run(main)
