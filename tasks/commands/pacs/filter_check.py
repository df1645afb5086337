"""Check that what a PACS finds matches the filters: one that does not know a key ignores it."""

import re
from collections.abc import Mapping

from tasks.stage.errors import InputError


def matches(filters: Mapping[str, str], found: Mapping[str, str | None]) -> bool:
    """Check a study against filters as PS3.4 C.2.2.2 matches them, in any letter case.

    Args:
        filters: what was asked for, by keyword: a value, one with `*` and `?`, a range of dates.
        found: the study's values; None where the answer lacks the attribute.

    Raises:
        InputError: the answer lacks one, so nobody can tell whether the study matches.
    """
    for keyword, wanted in filters.items():
        value = found.get(keyword)
        if value is None and wanted.strip("*"):
            raise InputError(
                f"the PACS does not filter by {keyword}: it finds studies without saying theirs;"
                " use another filter, such as --study"
            )
        check = date_matches if keyword == "StudyDate" else text_matches
        if not check(wanted, value or ""):
            return False
    return True


def text_matches(wanted: str, value: str) -> bool:
    """Check a value against one with wildcards."""
    signs = {"*": ".*", "?": "."}
    pattern = "".join(signs.get(sign, re.escape(sign)) for sign in wanted.strip())
    return re.fullmatch(pattern, value.strip(), re.IGNORECASE | re.DOTALL) is not None


def date_matches(wanted: str, value: str) -> bool:
    """Check a date against one date or a range, open at one end or not."""
    first, dash, last = wanted.partition("-")
    day = value.strip().replace(".", "")
    return bool(day) and (first or day) <= day <= ((last or day) if dash else first)
