"""One patient: images read, masks brought onto each image's grid, both written."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import nibabel as nib
import numpy as np

from tasks.ingest.conversion.patient_masks import PatientMasks
from tasks.ingest.conversion.readers import read_prepared
from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume, write_nifti
from tasks.ingest.filenames.name_parts import parent_of, space_of
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.patient_scans import Patient, Scans, read_patient_scans
from tasks.ingest.user_tables.files_csv import EVIDENCE
from tasks.stage.stage_io import discard


@dataclass
class PatientResult:
    """What became of a patient: manifest rows, refusals, and which files went where."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    used: list[tuple[str, str]] = field(default_factory=list)  # (file, outcome)


def convert_patient(patient: Patient, plan: BatchContext) -> PatientResult:
    """Write a patient's volumes below the plan's folder and tell what became of each file."""
    folder, params = plan.folder, plan.settings
    scans, rejected = read_patient_scans(patient, plan)
    result = PatientResult(rejected=rejected)
    masks = PatientMasks(scans.masks, params)
    taken: dict[str, int] = {}
    for image in scans.images:
        try:
            volume, brain = read_prepared(image, params)
        except RejectionError as refusal:
            result.rejected.append(Rejection(image.sources, refusal.code, refusal.reason))
            continue
        stem = unique_output_name(scans, image, taken)
        write_nifti(folder / f"{stem}.nii.gz", volume)
        mask, status = None, "missing"
        flat = image.format == "image2d"
        chosen = masks_for_image(image, scans.masks, scans.images)
        combined = masks.lay_on(stem, volume, chosen, flat=flat)
        if combined is None and not chosen and image.label == 0:  # a class folder says: no tumour
            combined = np.zeros(volume.data.shape, np.uint8)
        if combined is not None:
            mask, status = f"{stem}_mask.nii.gz", "segmented" if combined.any() else "empty"
            write_nifti(folder / mask, Volume(combined, volume.affine))
        row = manifest_row(scans, image, volume)
        row |= {"image": f"{stem}.nii.gz", "mask": mask, "mask_status": status, "brain": brain}
        result.rows.append(row)
        written = {name for name, _ in result.used}
        result.used += [(s.name, stem) for s in image.sources if s.name not in written]
    for stem in masks.ignored():
        (folder / f"{stem}_mask.nii.gz").unlink()
        row = next(row for row in result.rows if row["image"] == f"{stem}.nii.gz")
        row |= {"mask": None, "mask_status": "missing"}
    unused = masks.unused()
    for index, found in enumerate(scans.masks):
        if index in unused:
            why = unused[index]
            result.rejected.append(Rejection(found.sources, why.code, why.reason))
        else:
            result.used += [(source.name, "mask") for source in found.sources]
    return once_a_file(result)


def once_a_file(result: PatientResult) -> PatientResult:
    """One outcome for a file of several channels: refused, where one of them is."""
    refusals = {(one.sources[0].name, one.code): one for one in reversed(result.rejected)}
    refused: set[str] = set()
    kept: list[Rejection] = []
    for one in reversed(refusals.values()):
        if len(one.sources) > 1 or one.name not in refused:
            kept.append(one)
        refused.update(source.name for source in one.sources)
    result.rejected = kept
    result.used = [pair for pair in result.used if pair[0] not in refused]
    return result


def result_after_crash(patient: Patient, plan: BatchContext) -> PatientResult:
    """A patient whose conversion killed its worker: nothing of it stays."""
    discard(plan.folder / patient.subject)
    reason = "a file of this patient ended two processes"
    named = {source.name: source for one in patient.found for source in one.sources}
    sources = [*plan.roll.read(patient.files), *named.values()]
    return PatientResult(rejected=[Rejection((source,), "crashed", reason) for source in sources])


def masks_for_image(
    image: ScanRecord, masks: Sequence[ScanRecord], images: Sequence[ScanRecord] = ()
) -> list[int]:
    """The masks of an image: drawn on it by name, else of its session and frame of reference.

    A mask that lies beside images, `images` being all of the patient, belongs to these alone.
    """
    folders = {parent_of(one.name) for one in images if one.format == "nifti"}
    near = [
        index
        for index, mask in enumerate(masks)
        if (mask.session is None or image.session is None or mask.session == image.session)
        and same_frame(image, mask)
        and (mask.format == "image2d") == (image.format == "image2d")  # one has no geometry
        and same_space(image, mask)
        and not lies_beside_others(image, mask, folders)
    ]
    own = [index for index in near if image.stem and masks[index].stem == image.stem]
    return own or [index for index in near if not drawn_on_another(image, masks[index])]


def same_space(image: ScanRecord, mask: ScanRecord) -> bool:
    """Whether both names speak of the same standard space, or of none, or the owner says so."""
    if image.format != "nifti" or mask.format != "nifti" or mask.evidence == EVIDENCE:
        return True
    return space_of(image.name) == space_of(mask.name)


def lies_beside_others(image: ScanRecord, mask: ScanRecord, folders: Collection[str]) -> bool:
    """Whether a mask lies in a folder of other images, visits perhaps that nothing tells apart."""
    if image.format != "nifti" or mask.format != "nifti":
        return False
    folder = parent_of(mask.name)
    return folder in folders and folder != parent_of(image.name)


def same_frame(image: ScanRecord, mask: ScanRecord) -> bool:
    """Frames of reference agree, or one of the two has none."""
    frames = {image.frame_of_reference, mask.frame_of_reference} - {""}
    return len(frames) < 2


def drawn_on_another(image: ScanRecord, mask: ScanRecord) -> bool:
    """Whether a mask's name carries another contrast than the image's."""
    return mask.format == "nifti" and mask.modality not in ("other", image.modality)


def unique_output_name(scans: Scans, image: ScanRecord, taken: dict[str, int]) -> str:
    """`sub-X/sub-X_ses-01_run-02_FLAIR`; session and run only where there are several."""
    words = [scans.subject]
    session = session_label(scans, image)
    if session is not None:
        words.append(session)
    stem = "_".join([*words, image.modality])
    taken[stem] = taken.get(stem, 0) + 1
    if taken[stem] > 1:
        stem = "_".join([*words, f"run-{taken[stem]:02d}", image.modality])
    return f"{scans.subject}/{stem}"


def session_label(scans: Scans, image: ScanRecord) -> str | None:
    """`ses-01`, `ses-02` in order of time; the date itself stays behind. None: not known."""
    if image.session is None:
        return None
    times: dict[str, str] = {}
    for found in scans.all_found:
        if found.session is not None:
            times[found.session] = min(found.when, times.get(found.session, found.when))
    sessions = sorted(times, key=lambda session: (times[session], session))
    return f"ses-{sessions.index(image.session) + 1:02d}"


def manifest_row(scans: Scans, image: ScanRecord, volume: Volume) -> dict[str, Any]:
    """The manifest's row of a volume, but for its paths."""
    return {
        "subject": scans.subject,
        "session": session_label(scans, image),
        "modality": image.modality,
        "evidence": image.evidence,
        "shape": list(volume.data.shape),
        "spacing_mm": [round(spacing, 6) for spacing in volume.spacing_mm],
        "orientation": "".join(nib.aff2axcodes(volume.affine)),
        "source_format": image.format,
        "source_sha256": combined_digest(image),
        "site": scans.site,
        "synthetic": image.synthetic,
        "patient_known": image.patient_known,
        "label": image.label,
    }


def combined_digest(image: ScanRecord) -> str:
    """SHA-256 of the source's bytes, file after file in the order of their names."""
    total = sha256()
    block = memoryview(bytearray(1 << 20))
    for source in sorted(image.sources, key=lambda source: source.name):
        with source.open() as file:
            while size := file.readinto(block):
                total.update(block[:size])
    return total.hexdigest()
