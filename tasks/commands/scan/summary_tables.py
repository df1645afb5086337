"""Print the tables of `auglift scan`: counts with three examples each."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.ingest.core.rejection import REMEDIES
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.filenames.layouts import match_layout, strip_format_suffix
from tasks.ingest.filenames.name_parts import parent_folder
from tasks.ingest.filenames.parse_filenames import FOLDER_LAYOUT
from tasks.ingest.images2d.image2d_scans import count_unlabelled
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.patients.patient_scans import PatientScans

EXAMPLES = 3
LONGEST = 60  # characters of an example


def print_tables(
    console: Console,
    patients: Sequence[tuple[Patient, PatientScans]],
    rejected: Sequence[tuple[str, str, str]],
    others: int,
    folder: Path,
) -> None:
    """Print what the batch holds, and what is not understood."""
    table = Table(title=f"{folder}: who is who", title_justify="left", expand=False)
    for header, justify in (("", "left"), ("count", "right"), ("for example", "left")):
        table.add_column(header, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for label, count, examples in summary_rows(patients, others):
        add_row(table, label, count, examples)
    console.print(table)
    if rejected:
        console.print(rejection_table(rejected))


def summary_rows(
    patients: Sequence[tuple[Patient, PatientScans]], others: int
) -> Iterable[tuple[str, int, list[str]]]:
    """Yield label, count and examples of each row of the first table."""
    known = [(patient, scans) for patient, scans in patients if is_patient_known(patient, scans)]
    yield "patients", len(known), [f"{p.id}: {contents_of(scans)}" for p, scans in known]
    if unknown := [pair for pair in patients if not is_patient_known(*pair)]:
        examples = [f"{scan.all_scans[0].name}" for _, scan in unknown if scan.all_scans]
        yield "of unknown identity", len(unknown), examples
    visits = [
        f"{patient.id}: {', '.join(several[:EXAMPLES])}{', …' if len(several) > EXAMPLES else ''}"
        for patient, scans in patients
        if len(several := visits_of(scans)) > 1
    ]
    if visits:
        yield "with several visits", len(visits), visits
    scans_found = [scan for _, scans in patients for scan in scans.all_scans]
    images: dict[str, list[ScanRecord]] = defaultdict(list)
    for scan in scans_found:
        if scan.role == "image":
            images[scan.modality].append(scan)
    for modality in sorted(images, key=lambda word: (word == "other", word)):
        label = "images, other contrasts" if modality == "other" else f"images, {modality}"
        yield label, len(images[modality]), list(map(format_example, images[modality]))
    masks = [scan for scan in scans_found if scan.role == "mask"]
    yield "masks", len(masks), list(map(format_example, masks))
    layouts = Counter(
        layout_name(scan) for scan in scans_found if scan.format in ("nifti", "image2d")
    )
    for layout, count in layouts.most_common():
        yield f"named as {layout}", count, []
    unlabelled, _ = count_unlabelled(scans_found)
    if unlabelled:
        yield "pictures without class or mask", unlabelled, folders_without_class(scans_found)
    yield "tables, sidecars and archives", others, []


def is_patient_known(patient: Patient, scans: PatientScans) -> bool:
    """Check whether all scans of a patient are known to be the patient's."""
    return patient.known and all(scan.patient_known for scan in scans.all_scans if not scan.headers)


def contents_of(scans: PatientScans) -> str:
    """Return a patient's content as `FLAIR, T1, 2 masks`."""
    counts = Counter(scan.modality for scan in scans.images)
    words = [word if count == 1 else f"{count} {word}" for word, count in sorted(counts.items())]
    if scans.masks:
        words.append("1 mask" if len(scans.masks) == 1 else f"{len(scans.masks)} masks")
    return ", ".join(words) or "no image"


def visits_of(scans: PatientScans) -> list[str]:
    """Return a patient's visits in their order; the dates of DICOM studies."""
    times = {
        scan.session: scan.session_order for scan in scans.all_scans if scan.session is not None
    }
    dicom_sessions = {scan.session for scan in scans.all_scans if scan.headers}
    in_order = sorted(times, key=lambda session: (times[session], session))
    return [
        times[session].split(" ")[0] or session if session in dicom_sessions else session
        for session in in_order
    ]


def format_example(scan: ScanRecord) -> str:
    """Return a scan's first file, and the number of its other files."""
    channel = "" if scan.channel is None or scan.format == "image2d" else f" channel {scan.channel}"
    more = f" and {len(scan.sources) - 1} more" if len(scan.sources) > 1 else ""
    return f"{shorten_path(scan.name)}{channel}{more}"


def shorten_path(path: str) -> str:
    """Return the end of a path, where the file's name is."""
    return path if len(path) <= LONGEST else f"…{path[1 - LONGEST :]}"


def layout_name(scan: ScanRecord) -> str:
    """Return the name of the layout that explains a file's name."""
    match = match_layout(strip_format_suffix(scan.name))
    return FOLDER_LAYOUT if match is None else match.layout.name


def folders_without_class(scans: Sequence[ScanRecord]) -> list[str]:
    """Return the folders of 2D images that name no class."""
    images = (scan for scan in scans if scan.format == "image2d" and scan.label is None)
    return sorted({parent_folder(scan.name) for scan in images})


def rejection_table(rejected: Sequence[tuple[str, str, str]]) -> Table:
    """Return the table of codes with their files, reasons and remedies."""
    table = Table(title="not understood, or left out", title_justify="left")
    for header, justify in (("code", "left"), ("files", "right")):
        table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("for example", overflow="fold")
    table.add_column("why, and what to do", overflow="fold")
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, code, reason in rejected:
        by_reason[code, reason].append(path)
    for (code, reason), paths in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        examples = "\n".join(map(shorten_path, paths[:EXAMPLES]))
        explanation = f"{reason}\n> {REMEDIES[code]}"
        table.add_row(code, str(len(paths)), Text(to_printable(examples)), Text(explanation))
    return table


def add_row(table: Table, label: str, count: int, examples: Sequence[str]) -> None:
    """Add a row with its first examples."""
    shown = "\n".join(to_printable(example) for example in examples[:EXAMPLES])
    table.add_row(label, str(count), Text(shown))


def to_printable(text: str) -> str:
    """Replace control characters and bytes that are not UTF-8, so that a terminal can show them."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1]
        for character in safe
    )
