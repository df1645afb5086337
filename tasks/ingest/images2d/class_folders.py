"""Read the class of a 2D image, with tumour or without, from the names of its folders."""

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
           "false", "nontumor",
           "nontumour", "tumorfree", "noncancerous", "nocancer", "no"}  # fmt: skip
NEGATIONS = {"no", "not", "non", "without", "free", "absent", "wo"}
# Words without meaning for the class.
FILLERS = {"brain", "mri", "mr", "mris", "image", "images", "img", "scan", "scans", "with", "class",
           "label", "slice", "slices", "case", "cases", "patient", "patients", "have", "has", "of",
           "primary", "type", "t1", "t2", "t1c", "flair", "pictures"}  # fmt: skip


def class_from_path(name: str) -> int | None:
    """Return 1 or 0 by the nearest folder whose name is a class; None where no folder names one."""
    for folder in reversed(PurePosixPath(name.lower()).parts[:-1]):
        label = class_from_folder(folder)
        if label is not None:
            return label
    return None


def class_from_folder(folder: str) -> int | None:
    """Return 1 for `Brain Tumor`, 0 for `no_tumor` and `Healthy`; None where other words occur."""
    words = [word for word in re.split(r"[\W_]+", folder.lower()) if word and word not in FILLERS]
    if not words:
        return None
    negated = bool(set(words) & NEGATIONS)
    rest = [word for word in words if word not in NEGATIONS]
    if not rest:
        return 0 if words == ["no"] else None
    if set(rest) <= HEALTHY:
        return None if negated else 0
    if set(rest) <= TUMOUR:
        return 0 if negated else 1
    return None
