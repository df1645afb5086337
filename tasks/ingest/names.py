"""What a NIfTI file's path says: patient, session, contrast, and whether it is a mask.

BIDS trees (`sub-X/ses-Y/anat/sub-X_FLAIR.nii.gz`, masks below `derivatives/`), folders with one
patient each and names such as `X_t1ce.nii.gz`, `X_seg.nii.gz`, and flat folders of these.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from tasks.ingest.modality import Modality, from_name

Role = Literal["image", "mask", "other-mask"]

MASK_WORDS = {"mask", "seg", "dseg", "label", "labels", "roi", "tumor", "tumour", "lesion"}
OTHER_MASKS = {"brain", "brainmask", "skull", "bet", "csf", "gm", "wm", "aseg", "aparc"}
CONTRASTS = r"flair|t1ce|t1c|t1gd|t1n|t1w|t1|t2f|t2w|t2"
CONTRAST = re.compile(rf"[_-]({CONTRASTS})$", re.IGNORECASE)
# A name that says what is shown, not of whom; and a folder that does not either.
NOBODY = re.compile(
    rf"({CONTRASTS}|{'|'.join(sorted(MASK_WORDS | OTHER_MASKS))}|image|img|scan|volume|data|mri?)",
    re.IGNORECASE,
)
NO_PATIENTS_FOLDER = re.compile(
    r"anat|nifti|nii|images?|imgs?|labels?|masks?|derivatives|raw|data|ses-.*|train.*|test.*|val.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Name:
    """A path's meaning; `stem` is the file's name without endings and mask words.

    `patient` is empty where neither the file's name nor a folder's says who it is; `by_entity` is
    whether BIDS says it.
    """

    patient: str
    by_entity: bool
    session: str | None
    role: Role
    stem: str
    modality: Modality


def understand(name: str) -> Name:
    """Read a path relative to the batch."""
    path = PurePosixPath(name)
    full = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    words = [word for word in re.split(r"[_\-.\s]+", full.lower()) if word]
    role: Role = "image"
    if MASK_WORDS & set(words[-2:]) or (MASK_WORDS & set(words) and "derivatives" in path.parts):
        role = "other-mask" if OTHER_MASKS & set(words) else "mask"
    elif OTHER_MASKS & set(words[-1:]):
        role = "other-mask"
    stem = without_mask_words(full) if role != "image" else full
    subject = entity("sub", path)
    patient = subject or CONTRAST.sub("", stem)
    if NOBODY.fullmatch(patient):
        folders = (part for part in reversed(path.parts[:-1]))
        patient = next((one for one in folders if not NO_PATIENTS_FOLDER.fullmatch(one)), "")
    session = entity("ses", path)
    return Name(patient, subject is not None, session, role, stem, from_name(full) or "other")


def entity(key: str, path: PurePosixPath) -> str | None:
    """The value of a BIDS entity, from the file's name or else from its folders."""
    for part in reversed(path.parts):
        match = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)(?=_|$|\.)", part)
        if match:
            return match[1]
    return None


def without_mask_words(full: str) -> str:
    """`X_FLAIR_mask` to `X_FLAIR`; `X_label-tumor_mask` to `X`."""
    while True:
        shorter = re.sub(
            r"[_\-.](?:label-[A-Za-z0-9]+|desc-[A-Za-z0-9]+|" + "|".join(MASK_WORDS) + r")$",
            "",
            full,
            flags=re.IGNORECASE,
        )
        if shorter == full:
            return full
        full = shorter
