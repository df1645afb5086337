"""Read the tumour's closed contours from RT structure sets (DICOM PS3.3 C.8.8.5 to C.8.8.8)."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source
from tasks.ingest.masks.rasterise_contours import Contours
from tasks.ingest.masks.segment_codes import MARGINS, part_by_code
from tasks.ingest.masks.segment_names import Segment, tumour_segments
from tasks.params.ingest import Ingest

CLOSED = re.compile("CLOSED_?PLANAR(_?XOR)?")
MAX_CONTOURS = 100_000
MAX_POINTS = 10_000_000


def read_contours(scan: ScanRecord, settings: Ingest) -> Contours:
    """Read the closed contours of the regions that are tumour by their code or name.

    Raises:
        RejectionError: `not-a-tumour-mask`, or `mask-not-drawn` if the tumour's regions have no
            closed contour: such a structure set does not say that there is no tumour.
    """
    import pydicom

    dataset = pydicom.dcmread(scan.sources[0].path, force=True)
    chosen = tumour_segments(regions_of(dataset), settings.mask_labels, settings.mask_segments)
    regions: list[tuple[NDArray[np.float64], ...]] = []
    others: list[NDArray[np.float64]] = []
    open_count = 0
    for roi in dataset.get("ROIContourSequence") or []:
        closed, open_lines = closed_contours(roi.get("ContourSequence") or [])
        if int(roi.ReferencedROINumber) in chosen:
            open_count += open_lines
            regions += [tuple(closed)] if closed else []
        else:
            others += closed
    if open_count:
        raise RejectionError(
            "mask-not-drawn", f"{open_count} of the tumour's contours are open lines"
        )
    if not regions:
        reason = f"{len(chosen)} regions are named as tumour, none has a closed contour"
        raise RejectionError("mask-not-drawn", reason)
    return Contours(tuple(regions), tuple(others), scan.slice_steps)


def referenced_series_uids(source: Source) -> set[str]:
    """Return the UIDs of the series that a structure set was drawn on; none if unreadable."""
    import pydicom

    uids: set[str] = set()
    try:
        dataset = pydicom.dcmread(
            source.path, force=True, specific_tags=["ReferencedFrameOfReferenceSequence"]
        )
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
            for study in frame.get("RTReferencedStudySequence") or []:
                for item in study.get("RTReferencedSeriesSequence") or []:
                    uids.add(str(item.get("SeriesInstanceUID", "")))
    except Exception:  # a hostile file may raise anything; reading its contours says what
        return set()
    return uids


def regions_of(dataset: Any) -> dict[int, Segment]:
    """Return the regions of interest by number, with the codes of their observations."""
    codes: dict[int, Segment] = {}
    for item in dataset.get("RTROIObservationsSequence") or []:
        number = int(item.get("ReferencedROINumber") or 0)
        coded = Segment.from_code_sequence(
            "", (item.get("RTROIIdentificationCodeSequence") or [{}])[0]
        )
        kind = ("RT", str(item.get("RTROIInterpretedType") or "").strip().upper())
        if coded.code == ("", "") and (kind in MARGINS or part_by_code(kind)):
            coded = Segment("", kind)
        codes[number] = coded
    names = {
        int(item.ROINumber): str(item.get("ROIName") or "")
        for item in dataset.get("StructureSetROISequence") or []
    }
    return {
        number: Segment(name, codes[number].code, codes[number].meaning)
        if number in codes
        else Segment(name)
        for number, name in names.items()
    }


def closed_contours(items: Iterable[Any]) -> tuple[list[NDArray[np.float64]], int]:
    """Return the closed contours, each (N,3) in RAS+ mm, and the number of open lines.

    Points, and contours of less than three points, mark a place and outline nothing.

    Raises:
        RejectionError: `too-large`, or `geometry` as `contour_points`.
    """
    closed: list[NDArray[np.float64]] = []
    open_lines = points = 0
    for item in items:
        contour = contour_points(item.get("ContourData") or [])
        if len(contour) < 3:
            continue
        if not CLOSED.fullmatch(str(item.get("ContourGeometricType") or "")):
            open_lines += str(item.get("ContourGeometricType")) != "POINT"
            continue
        points += len(contour)
        closed.append(contour)
        if len(closed) > MAX_CONTOURS or points > MAX_POINTS:
            raise RejectionError("too-large", f"more than {MAX_CONTOURS} contours of a region")
    return closed, open_lines


def contour_points(data: Any) -> NDArray[np.float64]:
    """Convert triplets in LPS+ mm to (N,3) in RAS+ mm.

    Raises:
        RejectionError: `geometry` for numbers that are not triplets or not finite.
    """
    values = np.array(data, np.float64).ravel()
    if len(values) % 3:
        raise RejectionError("geometry", "a contour's numbers are no triplets")
    points = values.reshape(-1, 3) * [-1.0, -1.0, 1.0]
    if not np.isfinite(points).all():
        raise RejectionError("geometry", "a contour's points are not finite")
    return points
