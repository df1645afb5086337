"""Convert one patient: read each image, bring the masks onto its grid, and write both as NIfTI."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.ingest.conversion.manifest_row import manifest_row
from tasks.ingest.conversion.patient_masks import PatientMasks
from tasks.ingest.conversion.readers import read_preprocessed
from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume, write_nifti
from tasks.ingest.masks.pairing import masks_for_image
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.patients.patient_scans import PatientScans, read_patient_scans, session_label
from tasks.stage.stage_io import discard


@dataclass
class PatientResult:
    """The outcome of a patient: manifest rows, rejections, and the outcome of each used file."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    used: list[tuple[str, str]] = field(default_factory=list)  # (file, outcome)


def convert_patient(patient: Patient, context: BatchContext) -> PatientResult:
    """Read a patient's headers, group the slices into series, and write the volumes.

    A worker runs this for each patient. Every file of the patient has one outcome in the result.
    """
    folder, settings = context.output_folder, context.settings
    scans, rejected = read_patient_scans(patient, context)
    result = PatientResult(rejected=rejected)
    masks = PatientMasks(scans.masks, settings)
    name_counts: dict[str, int] = {}
    for image in scans.images:
        try:
            volume, brain = read_preprocessed(image, settings)
        except RejectionError as error:
            result.rejected.append(Rejection(image.sources, error.code, error.reason))
            continue
        stem = unique_output_name(scans, image, name_counts)
        write_nifti(folder / f"{stem}.nii.gz", volume)
        chosen = masks_for_image(image, scans.masks, scans.images)
        union = masks.union_on_image(stem, volume, chosen, is_2d=image.format == "image2d")
        if union is None and not chosen and image.label == 0:  # a class folder: no tumour
            union = np.zeros(volume.data.shape, np.uint8)
        mask_path, mask_status = None, "missing"
        if union is not None:
            mask_path, mask_status = f"{stem}_mask.nii.gz", "segmented" if union.any() else "empty"
            write_nifti(folder / mask_path, Volume(union, volume.affine))
        row = manifest_row(scans, image, volume)
        row |= {"image": f"{stem}.nii.gz", "mask": mask_path, "mask_status": mask_status}
        # Nobody may be tested by an outline that a generator drew.
        row["synthetic"] |= union is not None and not masks.synthetic.isdisjoint(chosen)
        result.rows.append(row | {"brain": brain})
        written = {name for name, _ in result.used}
        result.used += [(s.name, stem) for s in image.sources if s.name not in written]
    for stem in masks.reject_ignored():
        (folder / f"{stem}_mask.nii.gz").unlink()
        row = next(row for row in result.rows if row["image"] == f"{stem}.nii.gz")
        row |= {"mask": None, "mask_status": "missing"}
    unused = masks.reasons_unused()
    for index, mask in enumerate(scans.masks):
        if index in unused:
            reason = unused[index]
            result.rejected.append(Rejection(mask.sources, reason.code, reason.reason))
        else:
            result.used += [(source.name, "mask") for source in mask.sources]
    return one_outcome_per_file(result)


def one_outcome_per_file(result: PatientResult) -> PatientResult:
    """Reject a file of several channels once if one of its channels is rejected."""
    by_file_and_code = {(one.sources[0].name, one.code): one for one in reversed(result.rejected)}
    rejected_files: set[str] = set()
    rejections: list[Rejection] = []
    for rejection in reversed(by_file_and_code.values()):
        if len(rejection.sources) > 1 or rejection.name not in rejected_files:
            rejections.append(rejection)
        rejected_files.update(source.name for source in rejection.sources)
    result.rejected = rejections
    result.used = [pair for pair in result.used if pair[0] not in rejected_files]
    return result


def result_after_crash(patient: Patient, context: BatchContext) -> PatientResult:
    """Reject all files of a patient whose conversion killed its worker; delete what it wrote."""
    discard(context.output_folder / patient.subject)
    reason = "a file of this patient ended two processes"
    named = {source.name: source for scan in patient.named_scans for source in scan.sources}
    sources = [*context.dicom_files.read_sources(patient.dicom_files), *named.values()]
    return PatientResult(rejected=[Rejection((source,), "crashed", reason) for source in sources])


def unique_output_name(scans: PatientScans, image: ScanRecord, name_counts: dict[str, int]) -> str:
    """Return `sub-X/sub-X_ses-01_run-02_FLAIR`; session if known, run from the second image on.

    `name_counts` counts the names without a run; this call adds to it.
    """
    parts = [scans.subject]
    session = session_label(scans, image)
    if session is not None:
        parts.append(session)
    stem = "_".join([*parts, image.modality])
    name_counts[stem] = name_counts.get(stem, 0) + 1
    if name_counts[stem] > 1:
        stem = "_".join([*parts, f"run-{name_counts[stem]:02d}", image.modality])
    return f"{scans.subject}/{stem}"
