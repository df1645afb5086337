"""The class that a folder of pictures names: with tumour, or without."""

import re
from pathlib import PurePosixPath

TUMOUR = {
    "tumor", "tumour", "tumors", "tumours", "cancer", "cancerous", "glioma", "gliomas",
    "glioblastoma",
    "meningioma", "meningiomas", "pituitary", "metastasis", "metastases", "malignant", "positive",
    "abnormal", "lesion", "lesions", "yes", "true", "1", "hgg", "lgg", "gbm", "diseased", "sick",
    "astrocytoma", "ependymoma", "medulloblastoma", "schwannoma", "neoplasm", "pathological",
}  # fmt: skip
HEALTHY = {"healthy", "normal", "negative", "control", "controls", "notumor", "notumour", "0",
           "false",            "nontumor",
           "nontumour", "tumorfree", "noncancerous", "nocancer", "no"}  # fmt: skip
NOT = {"no", "not", "non", "without", "free", "absent", "wo"}
# Words that say nothing of the class.
FILLERS = {"brain", "mri", "mr", "mris", "image", "images", "img", "scan", "scans", "with", "class",
           "label", "slice", "slices", "case", "cases", "patient", "patients", "have", "has", "of",
           "primary", "type", "t1", "t2", "t1c", "flair", "pictures"}  # fmt: skip


def class_of(name: str) -> int | None:
    """1 or 0 where a folder's name tells a class, the nearest first; else None."""
    for folder in reversed(PurePosixPath(name.lower()).parts[:-1]):
        found = class_of_folder(folder)
        if found is not None:
            return found
    return None


def class_of_folder(folder: str) -> int | None:
    """`Brain Tumor` 1, `no_tumor` and `Healthy` 0; None where other words stand in the name."""
    words = [word for word in re.split(r"[\W_]+", folder.lower()) if word and word not in FILLERS]
    if not words:
        return None
    negated = bool(set(words) & NOT)
    rest = [word for word in words if word not in NOT]
    if not rest:
        return 0 if words == ["no"] else None
    if set(rest) <= HEALTHY:
        return None if negated else 0
    if set(rest) <= TUMOUR:
        return 0 if negated else 1
    return None
