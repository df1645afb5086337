"""What the words of a file's name say: its contrast, whether it is a mask, and whose ID is left.

The words are those of `layouts.toml`; nothing here knows other files than the one it is asked of.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from tasks.ingest.core.mr_contrast import Modality, from_name
from tasks.ingest.filenames.layouts import Role, words

SEPARATORS = re.compile(r"[_\-.\s,()]+")
CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
ENTITY_VALUES = r"label-[A-Za-z0-9]+|desc-[A-Za-z0-9]+"
WORD = re.compile(r"[^_\-.\s,()]+")
DATE = re.compile(r"(?:19|20)\d\d(?P<mark>[-_.]?)(?:0[1-9]|1[0-2])(?P=mark)(?:[0-2]\d|3[01])")
REMEMBERED = lru_cache(8192)  # folders and words recur in every path of a batch
MOST_WORDS_IN_A_MASKS_NAME = 2  # from its end: `X_label-tumor_mask`


@dataclass(frozen=True, slots=True)
class Stem:
    """A file's name taken apart.

    `id` is what stands before the words that say what is shown; empty where the name begins with
    such a word. `clean` is whether the ID holds none of them. `contrast` and `mask` are whether
    the name speaks of one.
    """

    id: str
    clean: bool
    contrast: bool
    mask: bool


@REMEMBERED
def split(name: str) -> tuple[str, ...]:
    """The words of a name in lower case, `tumorMask` as two."""
    found: list[str] = []
    for word in SEPARATORS.split(name):
        if word:
            lowered = word.lower()
            known = lowered in words("mask") or lowered in words("contrast")
            found += [lowered] if known else [one.lower() for one in CAMEL.findall(word)]
    return tuple(found)


def role_of(path: str) -> Role:
    """Image, mask, or a mask of something else, by the words of a path without ending."""
    *folders, name = path.split("/")
    parts = split(name)
    known = set(parts)
    masks, others, tumours = words("mask"), words("other_structure"), words("tumour")
    in_mask_folder = any(folder.lower() in MASK_FOLDERS for folder in folders)
    ends = parts[-MOST_WORDS_IN_A_MASKS_NAME:]
    begins = parts[:1] if parts[:1] not in (("tumor",), ("tumour",)) else ()
    derived = "derivatives" in folders
    is_mask = (
        bool(masks & set(ends))
        or bool(masks & known and (derived or masks & set(begins)))
        or in_mask_folder
    )
    has_contrast = has_contrast_word(parts)
    if not is_mask:
        return "other-mask" if others & set(parts[-1:]) and not has_contrast else "image"
    around = tumours & known or any(tumours & set(split(folder)) for folder in folders)
    if tumours & known:
        return "mask"
    if others & known or ({"dseg", "probseg"} & known and not around):
        return "other-mask"
    if in_mask_folder and not masks & known and has_contrast and derived:
        return "image"
    return "mask"


MASK_FOLDERS = {
    "masks", "mask", "labels", "label", "segmentations", "segmentation", "seg", "segs", "gt",
    "groundtruth", "ground_truth", "annotations", "labelstr", "labelsts", "labelsval", "rois",
    "gt_segmentations", "images_segm", "automated_segm",
}  # fmt: skip


def has_contrast_word(parts: Sequence[str]) -> bool:
    """Whether one of the words is a contrast."""
    return bool(words("contrast") & set(parts))


def modality_of(path: str) -> Modality:
    """The contrast by the file's name, else by the nearest folder that is named like one."""
    *folders, name = path.split("/")
    found = from_name(name)
    if found is not None:
        return found
    for folder in reversed(folders):
        if is_contrast(folder):
            return from_name(folder) or "other"
    return "other"


@REMEMBERED
def is_contrast(word: str) -> bool:
    """Whether a folder is named like a contrast: `FLAIR`, `T1-Gd`."""
    parts = split(word)
    return (
        bool(parts)
        and set(parts) <= words("contrast") | {"gd", "ce", "post", "pre"}
        and (has_contrast_word(parts))
    )


def without_mask_words(full: str) -> str:
    """`X_FLAIR_mask` to `X_FLAIR`, `X_label-tumor_mask` and `X_tumorMask` to `X`."""
    listed = "|".join(sorted(words("mask"), key=len, reverse=True))
    while True:
        shorter = re.sub(rf"[_\-. ](?:{ENTITY_VALUES}|{listed})$", "", full, flags=re.IGNORECASE)
        if shorter == full:
            return full
        full = shorter


def take_apart(name: str) -> Stem:
    """A file's name, without ending, as ID and the words behind it."""
    found = list(WORD.finditer(name))
    parts = [word[0] for word in found]
    contrast = next((i for i, word in enumerate(parts) if word.lower() in words("contrast")), None)
    mask = any(set(split(word)) & words("mask") for word in parts)
    end = len(parts) if contrast is None else contrast
    end = min([end, *(i for i, word in enumerate(parts) if i and is_mask_word(word))])
    start = 0
    while start < end and is_mask_word(parts[start]):
        start += 1
    while end > start and is_filler(parts[end - 1].lower()):
        end -= 1
    chosen = parts[start:end]
    clean = bool(chosen) and not any(
        is_filler(word.lower()) or set(split(word)) & PARTS_OF_NO_ID for word in chosen
    )
    text = name[found[start].start() : found[end - 1].end()] if chosen else ""
    return Stem(text, clean, contrast is not None, mask)


PARTS_OF_NO_ID = {"reg", "affine", "affineto", "mni", "roi", "mask", "seg", "output", "result"}


@REMEMBERED
def is_mask_word(word: str) -> bool:
    """`seg`, `tumorMask`: a word made of nothing but words for masks."""
    parts = split(word)
    return bool(parts) and set(parts) <= words("mask")


def is_filler(word: str) -> bool:
    """A word of processing, or one that could be anybody's: `n4`, `reg`, `image`, `mri`."""
    return word in words("processing") or word in words("nobody")


def is_numbered(word: str, kind: str, *, alone: bool = True) -> bool:
    """Whether a word is one of a list with a number behind it, or (`alone`) without: `week-044`."""
    if alone and word.lower() in words(kind):
        return True
    match = re.fullmatch(r"([A-Za-z]+)[-_ .]?(\d+)", word)
    return match is not None and match[1].lower() in words(kind)


@REMEMBERED
def is_visit(word: str) -> bool:
    """Whether a folder's name or a part of an ID tells a visit: `week-044`, `baseline`, a date."""
    if word.lower() in words("contrast"):
        return False
    return (
        DATE.fullmatch(word) is not None
        or re.fullmatch(r"ses-.+", word, re.IGNORECASE) is not None
        or re.fullmatch(r"[A-Za-z]*\d+(days?|d|weeks?|w|months?|m|years?|y)", word) is not None
        or re.fullmatch(r"week-\d+-\d+", word, re.IGNORECASE) is not None
        or (is_numbered(word, "visit") and word.lower() not in {"v", "w", "m", "d", "y", "t", "e"})
    )


@REMEMBERED
def is_person(word: str) -> bool:
    """Whether a folder's name is a word for a person with a number: `P1`, `patient_003`."""
    return is_numbered(word, "person", alone=False)


@REMEMBERED
def is_structure(word: str) -> bool:
    """Whether a folder is named for what lies in it, not for whom: `anat`, `images`, `FLAIR`."""
    listed = words("structure") | words("processing") | words("nobody")
    if word.lower() in listed or is_contrast(word):
        return True
    parts = split(word)
    return bool(parts) and set(parts) <= listed | words("contrast") | words("mask")


@REMEMBERED
def is_partition(word: str) -> bool:
    """Whether a folder is a part of a collection: `train`, `HGG`, `site-3`, `..._Training`."""
    parts = split(word)
    if word.lower() in words("partition") or is_numbered(word, "partition"):
        return True
    return (
        bool(parts)
        and bool({"training", "validation", "testing", "dataset"} & set(parts))
        and (not any(part.isdigit() and len(part) < 4 for part in parts))
    )


def is_collection(word: str) -> bool:
    """Whether a folder's name says that it holds many people: `glioma_data`, `UCSF_..._TRAIN`."""
    return bool(set(split(word)) & (words("partition") | words("collection")))


def space_of(path: str) -> str:
    """The standard space that a path speaks of, `mni`, or nothing."""
    found = re.search(r"(?<![a-z0-9])space-([a-z0-9]+)|(?:(?<![a-z])|to)(mni)", path.lower())
    if found is None:
        return ""
    return "mni" if "mni" in found[0] else ""


def parent_of(name: str) -> str:
    """The folder of a path, empty at the top."""
    return PurePosixPath(name).parent.as_posix()
