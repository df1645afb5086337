"""Choose the segments or regions of interest that are tumour, by code or by the words of names.

A planning system adds structures such as `Brain-GTV`, the brain without the tumour, and atlases add
organs. So only whole words count, and a name that contains a margin, an exclusion of the tumour, or
an organ is not a tumour. A mask is rejected if neither codes nor names tell, and
`ingest.mask_segments` can name its segments.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.masks.segment_codes import (
    MARGINS,
    PARTS_OF_REGION,
    TumourPart,
    normalise_code,
    part_by_code,
)
from tasks.params.ingest import LabelRule

GTV = r"\b(?:gtv\w{0,4}|gross t(?:umou?r|arget) volume)\b"
NOUN = (
    r"\b(?:(?:intra)?tumou?r(?:s|al|en|e|i)?|tumeurs?|neoplas\w*|lesions?|lasion\w*|mass(?:es)?|gbm"
    r"|hgg|lgg|dipg|dmg|\w*gliom\w*|\w*astrocytom\w*|\w*blastom\w*|ependymom\w*|meningeom\w*"
    r"|meningiom\w*|schwannom\w*|neurinom\w*|craniopharyngiom\w*|\w*adenom\w*|lymphom\w*"
    r"|\w*sarcom\w*|chordom\w*|germinom\w*|\w*carcinom\w*|melanom\w*|metast\w*|mets?|cancers?"
    r"|malignan\w*|abnormalit\w*|wt)\b"
)
PART_WORDS: tuple[tuple[TumourPart, str], ...] = (
    ("non-enhancing", r"\bnonenhancing\b|\bnet\b"),
    ("edema", r"\b(?:o?e|o)dem\w*|\binfiltrat\w*|\bed\b|\bsnfh\b|\bflair (?:hyperint|abnormal)\w*"),
    ("enhancing", r"\benhanc\w*|\bet\b|\bactive tumou?r\b"),
    ("core", rf"\bcore\b|\bnecro\w*|\bncr\b|\btc\b|{GTV}"),
    ("cyst", r"\bcyst\w*"),
    ("tumour", NOUN),
)
MARGIN = r"[cpi]tv|\b(?:clinical|planning|internal) target|\bprv\b"
# What is derived from a tumour's outline, surrounds or excludes the tumour; other lesions.
DERIVED = re.compile(
    rf"{MARGIN}|\d ?(?:mm|cm)\b|\+ ?\d|%|\bno (?!\d)|\bring(?! enhanc)|\bwhole brain\b"
    r"|\bperi(?:tumou?r|lesion)\w*\b(?! (?:o?edem|infiltr))"
    r"|\b(?:minus|without|w/?o|excl\w*|subtract\w*|less|not|non|free|outside|outer|around|rind|shell"
    r"|gtv(?:opt|exp|eval|ring)|margins?|expan\w*|exp|dilat\w*|avoid\w*|opti?|eval|helper|dummy|dose"
    r"|isodose\w*|isocent\w*|contra ?lateral|mirror\w*|healthy|normal|background|bg|bed|cavit\w*"
    r"|resect\w*|effect)\b"
    r"|\b(?:radio ?necrosis|radiation necrosis|infarct\w*|stroke|isch\w*|ha?emorrhages?|bleed\w*"
    r"|ha?ematoma|abscess|demyelin\w*|sclerosis|ms|plaques?|wmh|arachnoid|colloid|aneurysm|avm|cavernom\w*"
    r"|white matter|wm|gr[ae]y matter|gm)\b"
)
JOINED = re.compile(r"\b(?:and|plus|with|incl\w*|dash)\b|[+/]")
ORGAN = re.compile(
    r"\b(?:brain(?: ?stem)?|cerebr\w*|cerebell\w*|hippocamp\w*|amygdal\w*|\w*thalam\w*|pons|medulla"
    r"|midbrain|cord|spin(?:e|al)|ventric\w*|csf|fluid|gr[ae]y|white|matter|cortex|skull|scalp|bones?"
    r"|head|face|eyes?|globes?|lens|lenses|optics?|chiasma?|nerves?|cochlea\w*|pituitar\w*"
    r"|hypophys\w*|glands?|lacrimal\w*|parotid\w*|body|external|skin|organ|tissue|vessels?|arter\w*"
    r"|veins?|sinus\w*|dura|mening(?:es|eal)|fornix|callosum|caudate|putamen|pallidum|ganglia|oar"
    r"|lungs?|liver)\b"
)


@dataclass(frozen=True)
class Segment:
    """What a segmentation or a structure set says about one of its parts; `label` is a secret."""

    label: str
    code: tuple[str, str] = ("", "")  # scheme and value
    meaning: str = ""

    @classmethod
    def from_code_sequence(cls, label: str, code: Any) -> "Segment":
        """Return a segment with the first item of a code sequence, which may be empty."""
        value = str(code.get("CodeValue") or code.get("LongCodeValue") or "")
        scheme = str(code.get("CodingSchemeDesignator") or "")
        return cls(label, normalise_code(scheme, value), str(code.get("CodeMeaning") or ""))


def tumour_segments(
    segments: Mapping[int, Segment],
    rule: LabelRule | list[int],
    listed: Sequence[str | int] = (),
) -> list[int]:
    """Return the numbers of the segments that make up the region which the rule asks for.

    `listed` are labels and numbers that `ingest.mask_segments` calls tumour: if a mask has some of
    them, they are the region. Else a rule of numbers chooses, else code and name do.

    Raises:
        RejectionError: `not-a-tumour-mask` if neither code nor name is a tumour's, `labels-unknown`
            if they do not tell the region.
    """
    if not segments:
        raise RejectionError("not-a-tumour-mask", "no segment or region is described")
    labels = {normalised_label(name) for name in listed if isinstance(name, str)}
    chosen = [
        number
        for number, segment in segments.items()
        if number in listed or normalised_label(segment.label) in labels
    ]
    if chosen:
        return chosen
    if not isinstance(rule, str):
        chosen = [number for number in segments if number in rule]
        if not chosen:
            reason = f"none of {len(segments)} segments has a number that ingest.mask_labels lists"
            raise RejectionError("labels-unknown", reason)
        return chosen
    parts = tumour_parts(segments)
    if not parts:
        raise RejectionError("not-a-tumour-mask", reason_without_tumour(segments))
    if rule == "whole":
        return list(parts)
    chosen = [number for number, part in parts.items() if part in PARTS_OF_REGION[rule]]
    if not chosen and set(parts.values()) != {"edema"}:
        raise RejectionError("labels-unknown", f"no segment is named as {rule}")
    return chosen


def tumour_parts(segments: Mapping[int, Segment]) -> dict[int, TumourPart]:
    """Return the part of a tumour that each segment shows; segments that show none are left out.

    A cyst belongs to a tumour only beside other parts of one.
    """
    parts = {number: part for number, segment in segments.items() if (part := tumour_part(segment))}
    if set(parts.values()) == {"cyst"}:
        return {}
    if any(plain_words(segments[number].label) in ("et", "net") for number in parts):  # BraTS-PEDs
        parts |= {
            n: "cyst" for n, segment in segments.items() if plain_words(segment.label) == "cc"
        }
    return {number: parts[number] for number in segments if number in parts}


def tumour_part(segment: Segment) -> TumourPart | None:
    """Return the part of a tumour that a segment shows by its code or name; None for all else."""
    name = plain_words(segment.label)
    if is_derived(name):
        return None
    by_name = part_by_name(name)
    if by_name is None and ORGAN.search(name):
        return None  # whatever its code says: name and code contradict each other
    if segment.code in MARGINS and not re.search(GTV, name):
        return None
    by_code = part_by_code(segment.code) or part_by_name(plain_words(segment.meaning))
    if by_name in (None, "tumour"):
        return by_code or by_name
    return by_name


def part_by_name(name: str) -> TumourPart | None:
    """Return the part of a tumour that plain words name; None for organs and derived structures."""
    if is_derived(name):
        return None
    parts = [part for part, pattern in PART_WORDS if re.search(pattern, name)]
    part = parts[0] if parts else None
    if len(parts) > 1 and JOINED.search(name):  # `tumour and edema`, `necrotic and enhancing`
        part = "tumour" if "edema" in parts else "core"
    organ = ORGAN.search(name)
    if part is None or organ is None:
        return part
    if JOINED.search(name):  # `brain and tumour`
        return None
    gtv = re.search(GTV, name)
    if gtv is not None:  # `GTV brainstem` is a tumour's place, `Brain-GTV` the rest of the brain
        return part if gtv.start() < organ.start() else None
    return part if re.search(NOUN, name) or part == "edema" else None


def is_derived(name: str) -> bool:
    """Check whether a name is a margin's, the rest's without the tumour, or another lesion's."""
    return bool(DERIVED.search(name))


def plain_words(label: str) -> str:
    """Convert a label to plain lower-case words: `GTVp_1` is `gtvp 1`, `TumorCore` `tumor core`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    plain = unicodedata.normalize("NFKD", spaced).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])", " ", plain)
    plain = re.sub(r"\s-+\s", " dash ", plain)
    plain = re.sub(r"[^a-z0-9%+/]+", " ", plain)
    plain = re.sub(r"\bt ?1 ?\+ ?(?:c|gd|km)\b", "t 1 c", plain)
    return re.sub(r"\bnon ?(?:contrast )?enhanc\w*", "nonenhancing", plain).strip()


def normalised_label(label: str) -> str:
    """Convert a label to the form in which labels are compared: without case and outer spaces."""
    return label.strip().casefold()


def reason_without_tumour(segments: Mapping[int, Segment]) -> str:
    """Return why no segment is a tumour's, in counts: the names are secrets."""
    names = {number: plain_words(segment.label) for number, segment in segments.items()}
    margins = sum(
        segment.code in MARGINS or bool(re.search(MARGIN, names[number]))
        for number, segment in segments.items()
    )
    organs = sum(bool(ORGAN.search(name)) for name in names.values())
    reason = f"none of {len(segments)} segments is tumour by its code or its name"
    counts = [(margins, "hold a margin (CTV, PTV)"), (organs, "are named as organs")]
    more = ", ".join(f"{count} {kind}" for count, kind in counts if count)
    return f"{reason} ({more})" if more else reason
