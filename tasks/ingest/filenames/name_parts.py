"""Read contrast, role and ID from the words of one file's name and of its folders.

The words are those of `layouts.toml`. No function here looks at other files of the batch.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from tasks.ingest.core.mr_contrast import Modality, contrast_from_name
from tasks.ingest.filenames.layouts import Role, word_list

SEPARATORS = re.compile(r"[_\-.\s,()]+")
CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
ENTITY_VALUES = r"label-[A-Za-z0-9]+|desc-[A-Za-z0-9]+"
WORD = re.compile(r"[^_\-.\s,()]+")
DATE = re.compile(r"(?:19|20)\d\d(?P<mark>[-_.]?)(?:0[1-9]|1[0-2])(?P=mark)(?:[0-2]\d|3[01])")
CACHED = lru_cache(8192)  # folders and words recur in every path of a batch
MOST_WORDS_IN_A_MASKS_NAME = 2  # from its end: `X_label-tumor_mask`


@dataclass(frozen=True, slots=True)
class StemParts:
    """A file's name without suffix, split at the words that describe its content.

    `id` is the text before these words; empty where the name begins with such a word. `is_clean` is
    whether the ID holds none of them. `has_contrast` and `has_mask` are whether the name holds a
    word for a contrast or a mask.
    """

    id: str
    is_clean: bool
    has_contrast: bool
    has_mask: bool


@CACHED
def split_words(name: str) -> tuple[str, ...]:
    """Split a name into words in lower case; `tumorMask` gives two."""
    parts: list[str] = []
    for word in SEPARATORS.split(name):
        if word:
            lowered = word.lower()
            is_listed = lowered in word_list("mask") or lowered in word_list("contrast")
            parts += [lowered] if is_listed else [part.lower() for part in CAMEL.findall(word)]
    return tuple(parts)


def role_of(path: str) -> Role:
    """Tell image, mask and mask of another structure apart by a path without suffix."""
    *folders, name = path.split("/")
    parts = split_words(name)
    present = set(parts)
    masks, other_structures, tumours = (
        word_list("mask"),
        word_list("other_structure"),
        word_list("tumour"),
    )
    in_mask_folder = any(folder.lower() in MASK_FOLDERS for folder in folders)
    ends = parts[-MOST_WORDS_IN_A_MASKS_NAME:]
    begins = parts[:1] if parts[:1] not in (("tumor",), ("tumour",)) else ()
    derived = "derivatives" in folders
    is_mask = (
        bool(masks & set(ends))
        or bool(masks & present and (derived or masks & set(begins)))
        or in_mask_folder
    )
    has_contrast = has_contrast_word(parts)
    if not is_mask:
        return "other-mask" if other_structures & set(parts[-1:]) and not has_contrast else "image"
    around = tumours & present or any(tumours & set(split_words(folder)) for folder in folders)
    if tumours & present:
        return "mask"
    if other_structures & present or ({"dseg", "probseg"} & present and not around):
        return "other-mask"
    if in_mask_folder and not masks & present and has_contrast and derived:
        return "image"
    return "mask"


MASK_FOLDERS = {
    "masks", "mask", "labels", "label", "segmentations", "segmentation", "seg", "segs", "gt",
    "groundtruth", "ground_truth", "annotations", "labelstr", "labelsts", "labelsval", "rois",
    "gt_segmentations", "images_segm", "automated_segm",
}  # fmt: skip


def has_contrast_word(parts: Sequence[str]) -> bool:
    """Check whether one of the words is a contrast."""
    return bool(word_list("contrast") & set(parts))


def modality_of(path: str) -> Modality:
    """Return the contrast by the file's name, else by the nearest folder that is named like one."""
    *folders, name = path.split("/")
    modality = contrast_from_name(name)
    if modality is not None:
        return modality
    for folder in reversed(folders):
        if is_contrast_folder(folder):
            return contrast_from_name(folder) or "other"
    return "other"


@CACHED
def is_contrast_folder(word: str) -> bool:
    """Check whether a folder is named like a contrast: `FLAIR`, `T1-Gd`."""
    parts = split_words(word)
    return (
        bool(parts)
        and set(parts) <= word_list("contrast") | {"gd", "ce", "post", "pre"}
        and (has_contrast_word(parts))
    )


def strip_mask_words(stem: str) -> str:
    """Shorten `X_FLAIR_mask` to `X_FLAIR`, `X_label-tumor_mask` and `X_tumorMask` to `X`."""
    mask_words = "|".join(sorted(word_list("mask"), key=len, reverse=True))
    while True:
        shorter = re.sub(
            rf"[_\-. ](?:{ENTITY_VALUES}|{mask_words})$", "", stem, flags=re.IGNORECASE
        )
        if shorter == stem:
            return stem
        stem = shorter


def split_stem(name: str) -> StemParts:
    """Split a file's name, without suffix, into the ID and the words behind it."""
    words = list(WORD.finditer(name))
    parts = [word[0] for word in words]
    contrast = next(
        (i for i, word in enumerate(parts) if word.lower() in word_list("contrast")), None
    )
    mask = any(set(split_words(word)) & word_list("mask") for word in parts)
    end = len(parts) if contrast is None else contrast
    end = min([end, *(i for i, word in enumerate(parts) if i and is_mask_word(word))])
    start = 0
    while start < end and is_mask_word(parts[start]):
        start += 1
    while end > start and is_filler(parts[end - 1].lower()):
        end -= 1
    id_words = parts[start:end]
    is_clean = bool(id_words) and not any(
        is_filler(word.lower()) or set(split_words(word)) & NON_ID_WORDS for word in id_words
    )
    text = name[words[start].start() : words[end - 1].end()] if id_words else ""
    return StemParts(text, is_clean, contrast is not None, mask)


NON_ID_WORDS = {"reg", "affine", "affineto", "mni", "roi", "mask", "seg", "output", "result"}


@CACHED
def is_mask_word(word: str) -> bool:
    """Check whether a word consists of words for masks only: `seg`, `tumorMask`."""
    parts = split_words(word)
    return bool(parts) and set(parts) <= word_list("mask")


def is_filler(word: str) -> bool:
    """Check whether a word names processing or fits any patient: `n4`, `reg`, `image`, `mri`."""
    return word in word_list("processing") or word in word_list("unspecific")


def is_numbered(word: str, kind: str, *, alone: bool = True) -> bool:
    """Check whether a word is listed, with a number behind it or (`alone`) without: `week-044`."""
    if alone and word.lower() in word_list(kind):
        return True
    match = re.fullmatch(r"([A-Za-z]+)[-_ .]?(\d+)", word)
    return match is not None and match[1].lower() in word_list(kind)


@CACHED
def is_visit(word: str) -> bool:
    """Check whether a folder's name or part of an ID is a visit: `week-044`, `baseline`, a date."""
    if word.lower() in word_list("contrast"):
        return False
    return (
        DATE.fullmatch(word) is not None
        or re.fullmatch(r"ses-.+", word, re.IGNORECASE) is not None
        or re.fullmatch(r"[A-Za-z]*\d+(days?|d|weeks?|w|months?|m|years?|y)", word) is not None
        or re.fullmatch(r"week-\d+-\d+", word, re.IGNORECASE) is not None
        or (is_numbered(word, "visit") and word.lower() not in {"v", "w", "m", "d", "y", "t", "e"})
    )


@CACHED
def is_numbered_patient(word: str) -> bool:
    """Check whether a folder's name is a word for a patient with a number: `P1`, `patient_003`."""
    return is_numbered(word, "patient", alone=False)


@CACHED
def is_content_folder(word: str) -> bool:
    """Check whether a folder is named for its content, not a patient: `anat`, `images`, `FLAIR`."""
    listed = word_list("structure") | word_list("processing") | word_list("unspecific")
    if word.lower() in listed or is_contrast_folder(word):
        return True
    parts = split_words(word)
    return bool(parts) and set(parts) <= listed | word_list("contrast") | word_list("mask")


@CACHED
def is_partition_folder(word: str) -> bool:
    """Check whether a folder is part of a collection: `train`, `HGG`, `site-3`, `..._Training`."""
    parts = split_words(word)
    if word.lower() in word_list("partition") or is_numbered(word, "partition"):
        return True
    return (
        bool(parts)
        and bool({"training", "validation", "testing", "dataset"} & set(parts))
        and (not any(part.isdigit() and len(part) < 4 for part in parts))
    )


def is_collection_folder(word: str) -> bool:
    """Check whether a folder's name means many patients: `glioma_data`, `UCSF_..._TRAIN`."""
    return bool(set(split_words(word)) & (word_list("partition") | word_list("collection")))


def standard_space(path: str) -> str:
    """Return the standard space that a path names, `mni`, or an empty text."""
    match = re.search(r"(?<![a-z0-9])space-([a-z0-9]+)|(?:(?<![a-z])|to)(mni)", path.lower())
    if match is None:
        return ""
    return "mni" if "mni" in match[0] else ""


def parent_folder(name: str) -> str:
    """Return the folder of a path; `.` at the top."""
    return PurePosixPath(name).parent.as_posix()
