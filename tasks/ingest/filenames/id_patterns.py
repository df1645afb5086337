"""Split the IDs of a batch into patient and visit, and mark those that leave the patient open.

`P1_v2` and `P1_20190512` are visits of P1. In `doe_1`, `doe_2`, `roe_1` the number may count
patients or visits: such IDs are ambiguous, and their files are rejected. All IDs of a batch are
compared, because a single ID tells little.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from tasks.ingest.filenames.layouts import match_layout, word_list
from tasks.ingest.filenames.name_parts import DATE, is_visit

GLUED_VISIT = re.compile(
    r"(?P<patient>.*\d)(?P<visit>(?:v|tp|t|ses|visit|w|m|d|fu)\d{1,3})", re.IGNORECASE
)
FINAL_DATE = re.compile(rf"(?P<patient>.+?)[_\-. ]?(?P<visit>{DATE.pattern})")
TWO_WORD_VISIT = re.compile(r"(?P<patient>.+?)[_\-. ](?P<visit>[A-Za-z]+[_\-. ]\d+)")
LAST_WORD_VISIT = re.compile(r"(?P<patient>.+)[_\-. ](?P<visit>[^_\-. ]+)")
LAST_NUMBER = re.compile(r"(.*?)(\d+)", re.DOTALL)
LAST_LETTER = re.compile(r"(.*\d)[_\-. ]?([A-Za-z])", re.DOTALL)
LAST_PART = re.compile(r"(.*[_\-. ])([^_\-. ]+)", re.DOTALL)
PATIENT_DIGITS = 3  # visits are counted with fewer digits, and not as 001
MANY_PATIENTS = 8  # IDs of one number range: no patient has so many visits in a batch


@dataclass(frozen=True, slots=True)
class ParsedId:
    """Patient and visit of an ID; `ambiguous` is whether the ID leaves the patient open."""

    patient: str
    session: str | None = None
    ambiguous: bool = False


def parse_ids(ids: Collection[str], *, cases: bool = False) -> dict[str, ParsedId]:
    """Split every ID of a batch into patient and visit.

    `cases` is whether a documented layout makes them cases such as `heart_003`: then three digits
    count patients.
    """
    by_layout = {name: parse_id_by_layout(name) for name in ids}
    stripped = {name: strip_visits(name) for name, parsed in by_layout.items() if parsed is None}
    ambiguous = ambiguous_ids({base for base, _ in stripped.values()}, cases=cases)
    return {
        name: parsed
        or ParsedId(*stripped[name], stripped[name][0] in ambiguous or not stripped[name][0])
        for name, parsed in by_layout.items()
    }


def parse_id_by_layout(name: str) -> ParsedId | None:
    """Parse an ID by a data set's layout, as `BraTS-GLI-00005-100`; None where none matches."""
    match = match_layout(name)
    if match is None or not match["patient"]:
        return None
    return ParsedId(match["patient"], match["session"] or None)


def strip_visits(name: str) -> tuple[str, str | None]:
    """Split `P1_v2` into `P1` and `v2`; the visit may be None."""
    visits: list[str] = []
    rest = name
    while True:
        for pattern in (FINAL_DATE, TWO_WORD_VISIT, LAST_WORD_VISIT, GLUED_VISIT):
            match = pattern.fullmatch(rest)
            if match is not None and is_visit(match["visit"]):
                visits.insert(0, match["visit"])
                rest = match["patient"].rstrip("_-. ")
                break
        else:
            break
    if is_visit(rest):
        return "", name
    return rest, "_".join(visits) or None


def ambiguous_ids(bases: Collection[str], *, cases: bool) -> set[str]:
    """Return the IDs that may be patients, visits or spellings of one ID, as the other IDs show."""
    ambiguous: set[str] = set()
    spellings: dict[str, set[str]] = defaultdict(set)
    endings: dict[str, set[str]] = defaultdict(set)  # beginning to what stands behind it
    beginnings: dict[str, set[str]] = defaultdict(set)  # number to what stands before it
    for base in bases:
        spellings[normalised_spelling(base)].add(base)
        beginning, ending = split_last_part(base)
        endings[beginning].add(ending)
        if ending.isdigit():
            beginnings[str(int(ending))].add(beginning)
    for same in spellings.values():
        if len(same) > 1:
            ambiguous |= same
    for base in bases:
        beginning, ending = split_last_part(base)
        shared = ending.isdigit() and len(beginnings[str(int(ending))]) > 1
        if beginning and may_count_visits(
            beginning, endings[beginning], shared=shared, cases=cases
        ):
            ambiguous.add(base)
    return ambiguous | extended_ids(bases)


def split_last_part(base: str) -> tuple[str, str]:
    """Split off the number, the letter behind a number, or the word at an ID's end."""
    for pattern in (LAST_NUMBER, LAST_LETTER, LAST_PART):
        match = pattern.fullmatch(base)
        if match is not None:
            return match[1], match[2]
    return "", base


def may_count_visits(beginning: str, endings: set[str], *, shared: bool, cases: bool) -> bool:
    """Check whether numbers or words behind one beginning may count visits instead of patients.

    `shared` is whether a number also follows another beginning, as in `doe_1`, `roe_1`.
    """
    if len(endings) == 1:
        return False
    bare = beginning.rstrip("_-. ")
    last_word = re.split(r"[_\-. ]", bare)[-1].lower()
    if last_word in word_list("patient") or (len(beginning) == 1 and bare.isalpha()):
        return False
    if any(letter.isdigit() for letter in bare):
        return True
    numbers = all(ending.isdigit() for ending in endings)
    glued = bare == beginning and len(re.findall(r"[A-Za-z]+", bare)) == 1
    padded = any(ending.startswith("0") for ending in endings)
    long = numbers and (glued or cases or padded) and all(len(n) >= PATIENT_DIGITS for n in endings)
    return shared or not (long or len(endings) >= MANY_PATIENTS)


def normalised_spelling(base: str) -> str:
    """Return an ID in lower case, without separators and leading zeros, to compare spellings."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[_\-. ]+", "", base.casefold()))


def extended_ids(bases: Collection[str]) -> set[str]:
    """Return the IDs that extend another ID, `P1_x` beside `P1`, and the IDs that they extend."""
    extended: set[str] = set()
    all_ids = set(bases)
    for base in bases:
        for match in re.finditer(r"[_\-. ]", base):
            if base[: match.start()] in all_ids:
                extended |= {base, base[: match.start()]}
    return extended
