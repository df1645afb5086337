"""What `auglift scan` prints: counts with three examples each."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.ingest.core.rejection import REMEDIES
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.filenames.layouts import match_layout, without_ending
from tasks.ingest.filenames.name_parts import parent_of
from tasks.ingest.filenames.recognise import FOLDERS
from tasks.ingest.images2d.collections import without_class
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.patients.patient_scans import PatientScans

EXAMPLES = 3
LONGEST = 60  # letters of an example


def print_tables(
    console: Console,
    patients: Sequence[tuple[Patient, PatientScans]],
    refused: Sequence[tuple[str, str, str]],
    others: int,
    folder: Path,
) -> None:
    """Print who is who, and what is not understood."""
    table = Table(title=f"{folder}: who is who", title_justify="left", expand=False)
    for header, justify in (("", "left"), ("count", "right"), ("for example", "left")):
        table.add_column(header, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for label, count, examples in lines(patients, others):
        add(table, label, count, examples)
    console.print(table)
    if refused:
        console.print(table_of_refusals(refused))


def lines(
    patients: Sequence[tuple[Patient, PatientScans]], others: int
) -> Iterable[tuple[str, int, list[str]]]:
    """Label, count and examples of each row of the first table."""
    known = [(patient, scans) for patient, scans in patients if is_known(patient, scans)]
    yield "patients", len(known), [f"{p.id}: {contents(scans)}" for p, scans in known]
    if unknown := [pair for pair in patients if not is_known(*pair)]:
        examples = [f"{one.all_scans[0].name}" for _, one in unknown if one.all_scans]
        yield "of unknown identity", len(unknown), examples
    visits = [
        f"{patient.id}: {', '.join(several[:EXAMPLES])}{', …' if len(several) > EXAMPLES else ''}"
        for patient, scans in patients
        if len(several := visits_of(scans)) > 1
    ]
    if visits:
        yield "with several visits", len(visits), visits
    found = [one for _, scans in patients for one in scans.all_scans]
    images: dict[str, list[ScanRecord]] = defaultdict(list)
    for one in found:
        if one.role == "image":
            images[one.modality].append(one)
    for modality in sorted(images, key=lambda word: (word == "other", word)):
        label = "images, other contrasts" if modality == "other" else f"images, {modality}"
        yield label, len(images[modality]), list(map(example, images[modality]))
    masks = [one for one in found if one.role == "mask"]
    yield "masks", len(masks), list(map(example, masks))
    layouts = Counter(layout_of(one) for one in found if one.format in ("nifti", "image2d"))
    for layout, count in layouts.most_common():
        yield f"named as {layout}", count, []
    pictures, _ = without_class(found)
    if pictures:
        yield "pictures without class or mask", pictures, folders_without_class(found)
    yield "tables, sidecars and archives", others, []


def is_known(patient: Patient, scans: PatientScans) -> bool:
    """Whether all that there is of a patient is known to be his or hers."""
    return patient.known and all(one.patient_known for one in scans.all_scans if not one.headers)


def contents(scans: PatientScans) -> str:
    """`FLAIR, T1, 2 masks` of a patient."""
    counts = Counter(one.modality for one in scans.images)
    words = [word if count == 1 else f"{count} {word}" for word, count in sorted(counts.items())]
    if scans.masks:
        words.append("1 mask" if len(scans.masks) == 1 else f"{len(scans.masks)} masks")
    return ", ".join(words) or "no image"


def visits_of(scans: PatientScans) -> list[str]:
    """A patient's visits in their order; of DICOM studies the dates."""
    times = {one.session: one.when for one in scans.all_scans if one.session is not None}
    headers = {one.session for one in scans.all_scans if one.headers}
    in_order = sorted(times, key=lambda session: (times[session], session))
    return [times[one].split(" ")[0] or one if one in headers else one for one in in_order]


def example(one: ScanRecord) -> str:
    """A scan's first file, and how many more there are."""
    channel = "" if one.channel is None or one.format == "image2d" else f" channel {one.channel}"
    more = f" and {len(one.sources) - 1} more" if len(one.sources) > 1 else ""
    return f"{shortened(one.name)}{channel}{more}"


def shortened(path: str) -> str:
    """The end of a path, where the file's name is."""
    return path if len(path) <= LONGEST else f"…{path[1 - LONGEST :]}"


def layout_of(one: ScanRecord) -> str:
    """The layout that explains a file's name."""
    match = match_layout(without_ending(one.name))
    return FOLDERS if match is None else match.layout.name


def folders_without_class(found: Sequence[ScanRecord]) -> list[str]:
    """Folders of pictures that name no class."""
    pictures = (one for one in found if one.format == "image2d" and one.label is None)
    return sorted({parent_of(one.name) for one in pictures})


def table_of_refusals(refused: Sequence[tuple[str, str, str]]) -> Table:
    """Codes with their files, why, and what to do."""
    table = Table(title="not understood, or left out", title_justify="left")
    for header, justify in (("code", "left"), ("files", "right")):
        table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("for example", overflow="fold")
    table.add_column("why, and what to do", overflow="fold")
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, code, reason in refused:
        by_reason[code, reason].append(path)
    for (code, reason), paths in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        examples = "\n".join(map(shortened, paths[:EXAMPLES]))
        todo = f"{reason}\n> {REMEDIES[code]}"
        table.add_row(code, str(len(paths)), Text(printable(examples)), Text(todo))
    return table


def add(table: Table, label: str, count: int, examples: Sequence[str]) -> None:
    """A row with its first examples."""
    shown = "\n".join(printable(one) for one in examples[:EXAMPLES])
    table.add_row(label, str(count), Text(shown))


def printable(text: str) -> str:
    """Text that any terminal can show: no control characters, no bytes that are no UTF-8."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in safe)
