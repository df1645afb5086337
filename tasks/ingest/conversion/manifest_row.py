"""The manifest's row of a volume: geometry, contrast, origin, and a hash of the source files."""

from hashlib import sha256
from typing import Any

import nibabel as nib

from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume
from tasks.ingest.patients.patient_scans import PatientScans, session_label


def manifest_row(scans: PatientScans, image: ScanRecord, volume: Volume) -> dict[str, Any]:
    """Return the manifest's row of a volume, without the paths of image and mask."""
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
        "synthetic": image.synthetic or volume.synthetic,
        "patient_known": image.patient_known,
        "label": image.label,
    }


def combined_digest(image: ScanRecord) -> str:
    """Compute the SHA-256 of the source files' bytes, joined in the order of the files' names."""
    total = sha256()
    block = memoryview(bytearray(1 << 20))
    for source in sorted(image.sources, key=lambda source: source.name):
        with source.open() as file:
            while size := file.readinto(block):
                total.update(block[:size])
    return total.hexdigest()
