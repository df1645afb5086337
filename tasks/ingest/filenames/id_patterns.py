"""Which IDs of a batch are patients, which hold a visit, and which leave that open.

`P1_v2` and `P1_20190512` are visits of P1. Of `doe_1`, `doe_2`, `roe_1` nobody knows whether the
number counts people or visits: such IDs are ambiguous, and their files are refused. The IDs of a
batch are judged together, because one of them alone tells little.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from tasks.ingest.filenames.layouts import match_layout, words
from tasks.ingest.filenames.name_parts import DATE, is_visit

GLUED_VISIT = re.compile(
    r"(?P<patient>.*\d)(?P<visit>(?:v|tp|t|ses|visit|w|m|d|fu)\d{1,3})", re.IGNORECASE
)
END_DATE = re.compile(rf"(?P<patient>.+?)[_\-. ]?(?P<visit>{DATE.pattern})")
TWO_WORDS = re.compile(r"(?P<patient>.+?)[_\-. ](?P<visit>[A-Za-z]+[_\-. ]\d+)")
LAST_WORD = re.compile(r"(?P<patient>.+)[_\-. ](?P<visit>[^_\-. ]+)")
LAST_NUMBER = re.compile(r"(.*?)(\d+)", re.DOTALL)
LAST_LETTER = re.compile(r"(.*\d)[_\-. ]?([A-Za-z])", re.DOTALL)
LAST_PART = re.compile(r"(.*[_\-. ])([^_\-. ]+)", re.DOTALL)
ID_DIGITS = 3  # visits are counted in fewer, and not as 001
MANY = 8  # people of one number range: nobody is scanned so often in a batch of one


@dataclass(frozen=True, slots=True)
class Judged:
    """An ID's patient and visit; `ambiguous` is whether the ID leaves open who it is."""

    patient: str
    session: str | None = None
    ambiguous: bool = False


def judge(ids: Collection[str], *, cases: bool = False) -> dict[str, Judged]:
    """Every ID of a batch as patient and visit.

    `cases` is whether a documented layout makes them cases such as `heart_003`: then three digits
    count people.
    """
    listed = {one: by_layout(one) for one in ids}
    others = {one: peel(one) for one, judged in listed.items() if judged is None}
    unclear = ambiguous_bases({base for base, _ in others.values()}, cases=cases)
    return {
        one: judged or Judged(*others[one], others[one][0] in unclear or not others[one][0])
        for one, judged in listed.items()
    }


def by_layout(one: str) -> Judged | None:
    """What the layout of a known data set says of an ID: `BraTS-GLI-00005-100`."""
    match = match_layout(one)
    if match is None or not match["patient"]:
        return None
    return Judged(match["patient"], match["session"] or None)


def peel(one: str) -> tuple[str, str | None]:
    """`P1_v2` as `P1` and `v2`; the visit may be None."""
    visits: list[str] = []
    rest = one
    while True:
        for pattern in (END_DATE, TWO_WORDS, LAST_WORD, GLUED_VISIT):
            found = pattern.fullmatch(rest)
            if found is not None and is_visit(found["visit"]):
                visits.insert(0, found["visit"])
                rest = found["patient"].rstrip("_-. ")
                break
        else:
            break
    if is_visit(rest):
        return "", one
    return rest, "_".join(visits) or None


def ambiguous_bases(bases: Collection[str], *, cases: bool) -> set[str]:
    """IDs of which others make doubtful whether they are people, visits or spellings of one."""
    unclear: set[str] = set()
    spellings: dict[str, set[str]] = defaultdict(set)
    endings: dict[str, set[str]] = defaultdict(set)  # beginning to what stands behind it
    beginnings: dict[str, set[str]] = defaultdict(set)  # number to what stands before it
    for base in bases:
        spellings[spelling(base)].add(base)
        beginning, ending = last_part(base)
        endings[beginning].add(ending)
        if ending.isdigit():
            beginnings[str(int(ending))].add(beginning)
    for same in spellings.values():
        if len(same) > 1:
            unclear |= same
    for base in bases:
        beginning, ending = last_part(base)
        shared = ending.isdigit() and len(beginnings[str(int(ending))]) > 1
        if beginning and count_visits(beginning, endings[beginning], shared=shared, cases=cases):
            unclear.add(base)
    return unclear | with_longer_ones(bases)


def last_part(base: str) -> tuple[str, str]:
    """An ID's beginning, and the number, the letter behind a number, or the word at its end."""
    for pattern in (LAST_NUMBER, LAST_LETTER, LAST_PART):
        found = pattern.fullmatch(base)
        if found is not None:
            return found[1], found[2]
    return "", base


def count_visits(beginning: str, endings: set[str], *, shared: bool, cases: bool) -> bool:
    """Whether numbers or words behind one beginning may tell visits instead of people.

    `shared` is whether a number stands behind another beginning too, as in `doe_1`, `roe_1`.
    """
    if len(endings) == 1:
        return False
    bare = beginning.rstrip("_-. ")
    last_word = re.split(r"[_\-. ]", bare)[-1].lower()
    if last_word in words("person") or (len(beginning) == 1 and bare.isalpha()):
        return False
    if any(letter.isdigit() for letter in bare):
        return True
    numbers = all(ending.isdigit() for ending in endings)
    glued = bare == beginning and len(re.findall(r"[A-Za-z]+", bare)) == 1
    padded = any(ending.startswith("0") for ending in endings)
    long = numbers and (glued or cases or padded) and all(len(n) >= ID_DIGITS for n in endings)
    return shared or not (long or len(endings) >= MANY)


def spelling(base: str) -> str:
    """What two spellings of one ID have in common: no case, no separators, no leading zeros."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[_\-. ]+", "", base.casefold()))


def with_longer_ones(bases: Collection[str]) -> set[str]:
    """IDs that go on behind another one, `P1_x` behind `P1`, and these others."""
    found: set[str] = set()
    known = set(bases)
    for base in bases:
        for match in re.finditer(r"[_\-. ]", base):
            if base[: match.start()] in known:
                found |= {base, base[: match.start()]}
    return found
