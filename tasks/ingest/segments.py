"""Which segments or regions of interest are tumour, by the words that name them."""

import re
from collections.abc import Mapping

from tasks.ingest.refusal import RefusalError
from tasks.params.ingest import LabelRule

EDEMA = r"o?edema|infiltrat|\bed\b|\bsnfh\b"
NON_ENHANCING = r"non.?enhanc"
ENHANCING = r"enhanc|\bet\b"
CORE = r"core|necro|cyst|\bncr\b|\bnet\b|\btc\b|gtv"
WHOLE = r"tumou?r|neoplas|lesion|mass|glio|metasta|mening|abnormal|cancer|carcinom|whole|\bwt\b"
ANYTHING_ELSE = (
    r"brain|skull|csf|ventric|gr[ae]y|white|organ|eye|lens|optic|chiasm|stem|cord|external|body"
)


def tumour_segments(names: Mapping[int, str], rule: LabelRule | list[int]) -> list[int]:
    """The numbers of the segments that make up the region which the rule asks for.

    Raises:
        RefusalError: `not-a-tumour-mask` where the names speak of other things only,
            `labels-unknown` where they do not tell the region.
    """
    if not isinstance(rule, str):
        return [number for number in names if number in rule]
    lowered = {number: name.lower() for number, name in names.items()}
    tumour = {
        number: name
        for number, name in lowered.items()
        if re.search("|".join((EDEMA, ENHANCING, CORE, WHOLE)), name)
    }
    if not tumour:
        nameless = [n for n, name in lowered.items() if not re.search(ANYTHING_ELSE, name)]
        if len(lowered) != 1 or not nameless:
            raise RefusalError("not-a-tumour-mask", "the segments' names speak of no tumour")
        tumour = lowered
    if rule == "whole":
        return list(tumour)
    chosen = [number for number, name in tumour.items() if in_region(name, rule)]
    if not chosen and not all(re.search(EDEMA, name) for name in tumour.values()):
        raise RefusalError("labels-unknown", f"no segment is named as {rule}")
    return chosen


def in_region(name: str, rule: LabelRule) -> bool:
    """Whether a segment so named belongs to BraTS's tumour core or enhancing tumour."""
    enhancing = bool(re.search(ENHANCING, name)) and not re.search(NON_ENHANCING, name)
    if rule == "enhancing":
        return enhancing
    return enhancing or bool(re.search(f"{CORE}|{NON_ENHANCING}", name))
