"""Print the segments in the DICOM masks of a batch, so that the owner can choose the tumour."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.dicom.rtstruct import regions_of
from tasks.ingest.dicom.segmentation import segments_of
from tasks.ingest.masks.segment_names import Segment, tumour_parts, tumour_segments
from tasks.params.ingest import Ingest

MOST_ROWS = 30
PART_NAMES = {
    "core": "tumour core", "enhancing": "enhancing tumour", "non-enhancing": "non-enhancing tumour",
}  # fmt: skip


def read_segments(masks: Iterable[ScanRecord]) -> list[dict[int, Segment]]:
    """Read the segments or regions of each DICOM segmentation and structure set, where possible."""
    import pydicom

    segments: list[dict[int, Segment]] = []
    for mask in masks:
        if not mask.headers or len(mask.sources) > 1:
            continue
        try:
            path = mask.sources[0].path
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            read_dataset = regions_of if mask.format == "rtstruct" else segments_of
            segments.append(read_dataset(dataset))
        except Exception:  # a hostile file may raise anything; ingest reports the error
            continue
    return segments


def print_segments(
    console: Console, masks: Sequence[Mapping[int, Segment]], settings: Ingest
) -> None:
    """Print labels with their numbers, their part of the tumour, and the number of masks."""
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for mask in masks:
        for number, segment in mask.items():
            row = segment.label.strip(), counted_as(number, mask, settings)
            numbers[row].add(number)
            counts[row] += 1
    if not counts:
        return
    table = Table(title="segments of DICOM masks", title_justify="left", expand=False)
    for header in ("label", "numbers", "counts as", "masks"):
        table.add_column(header, overflow="fold", justify="right" if header == "masks" else "left")
    rows = sorted(counts, key=lambda row: (row[1] == "nothing", -counts[row], row))
    for row in rows[:MOST_ROWS]:
        examples = ", ".join(map(str, sorted(numbers[row])[:3]))
        more = ", …" if len(numbers[row]) > 3 else ""
        table.add_row(Text(row[0]), f"{examples}{more}", row[1], str(counts[row]))
    console.print(table)
    if len(rows) > MOST_ROWS:
        console.print(f"and {len(rows) - MOST_ROWS} labels more")
    if any(kind == "nothing" for _, kind in rows):
        console.print("list in ingest.mask_segments what is tumour and counts as nothing")


def counted_as(number: int, mask: Mapping[int, Segment], settings: Ingest) -> str:
    """Return the part of a tumour that ingest takes a segment for, or `nothing`."""
    try:
        chosen = tumour_segments(mask, settings.mask_labels, settings.mask_segments)
    except RejectionError:
        return "nothing"
    if number not in chosen:
        return "nothing"
    part = tumour_parts(mask).get(number, "tumour")
    return PART_NAMES.get(part, part)
