"""Mark data as synthetic, and recognise the marks when such data come back.

A PACS may drop attributes that it does not know, and a converter most of a header. So every file
carries several marks, and each of them alone is enough to recognise it: `release` writes them,
`ingest` rejects what bears one. Words in a series' description are none of them, because scanners
call contrasts that they compute from a real acquisition synthetic, too.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

# DICOM: value of Image Type (0008,0008), and purpose of a contributing equipment (0018,A001),
# (109100, DCM, "Synthesizing Equipment").
IMAGE_TYPE: Final = "SYNTHETIC"
SYNTHESIZING: Final = "109100"
# NIfTI: intent_name, and the start of descrip.
WORD: Final = "SYNTHETIC"
# JSON sidecars, and the text chunk of a PNG.
JSON_KEYS: Final = ("SyntheticData", "Synthetic")
PNG_KEYS: Final = {"SyntheticData": "YES", "Description": WORD}
# Names of the release's slices, and of those that `auglift generate` draws.
NAME: Final = re.compile(r"\bsub-syn(?:\d{5}|[0-9a-f]{8}s\d+[tn]\d{6})(?![0-9A-Za-z])")
# UIDs are UUIDs (PS3.5 B.2) of version 8 (RFC 9562) whose first 48 bits say AUGLFT; so every UID
# begins with UID_ROOT.
UUID_START: Final = int.from_bytes(b"AUGLFT")
UID_ROOT: Final = "2.25.868426110531833"


def synthetic_uid(text: str) -> str:
    """Derive a UID that is recognised as synthetic from a text."""
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest())
    custom_b, custom_c = bits >> 244, bits & (2**62 - 1)
    return f"2.25.{UUID_START << 80 | 8 << 76 | custom_b << 64 | 2 << 62 | custom_c}"


def is_synthetic_uid(uid: str) -> bool:
    """Check whether `synthetic_uid` made a UID."""
    digits = uid.removeprefix("2.25.")
    return uid != digits and digits.isdecimal() and int(digits[:40]) >> 80 == UUID_START


def dicom_marks(
    *,
    synthetic_data: str,
    image_type: Iterable[str],
    equipment_codes: Iterable[str],
    uids: Iterable[str],
) -> tuple[str, ...]:
    """Name the marks that a DICOM header bears.

    Args:
        synthetic_data: the value of (0008,001C).
        image_type: the values of Image Type, in capitals.
        equipment_codes: the codes of the purposes of contributing equipment.
        uids: UIDs of the instance, its series, study and frame of reference.
    """
    found = {
        "Synthetic Data (0008,001C)": synthetic_data == "YES",
        "Image Type": IMAGE_TYPE in image_type,
        "contributing equipment": SYNTHESIZING in equipment_codes,
        "a UID's root": any(map(is_synthetic_uid, uids)),
    }
    return tuple(name for name, there in found.items() if there)


def is_marked_json(tree: Mapping[str, object]) -> bool:
    """Check whether a JSON sidecar marks its image as synthetic, as DICOM (0008,001C) does."""
    return any(str(tree.get(key, "")).upper() in ("YES", "TRUE") for key in JSON_KEYS)


def is_marked_nifti(descrip: bytes, intent_name: bytes) -> bool:
    """Check whether a NIfTI header marks its image as synthetic."""
    return any(field.startswith(WORD.encode()) for field in (descrip, intent_name))


def is_marked_png(texts: Mapping[Any, Any]) -> bool:
    """Check whether the text chunks of a PNG mark it as synthetic."""
    return any(str(texts.get(key, "")).startswith(word) for key, word in PNG_KEYS.items())


def is_marked_name(path: str) -> bool:
    """Check whether a path is one that auglift gives to synthetic slices."""
    return NAME.search(path) is not None
