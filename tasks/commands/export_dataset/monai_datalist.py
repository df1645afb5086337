"""Write a release as a datalist of MONAI, in the layout of the Medical Segmentation Decathlon.

`monai.data.load_decathlon_datalist(DIR/dataset.json)` reads it. `fold` of a real slice is its
patient's fold, as MONAI's Auto3DSeg divides training and validation; that of a synthetic slice is
-1, on which no fold validates, so it always trains. All items have the same keys, because a
DataLoader joins items to a batch key by key.
"""

import shutil
from pathlib import Path
from typing import Any, Final

from tasks.commands.export_dataset.folds import folds_by_patient
from tasks.commands.export_dataset.nnunet import write_json
from tasks.commands.export_dataset.release_folder import ReleaseFolder, Slice

DATALIST: Final = "dataset.json"
UNOUTLINED: Final = "training_without_mask"
TRAINS_ALWAYS: Final = -1  # the fold of items that never validate

README: Final = """# MONAI datalist

{marked} An item is one slice, a NIfTI file of shape (W, H, 1):

    from monai.data import load_decathlon_datalist
    items = load_decathlon_datalist("dataset.json", is_segmentation=True, data_list_key="training")

Each item has `image` ({channels}), `label` (the mask), `tumor` (1 tumour, 0 none,
-1 unknown), `origin`, `subject` and `fold`: validate on one fold from 0 and train on all others;
synthetic slices (fold -1) always train. Items of `{unoutlined}` have no `label`.
For 2D networks remove the last axis: `SqueezeDimd(["image", "label"], dim=-1)`.
"""


def write_monai_datalist(release: ReleaseFolder, out: Path) -> str:
    """Write images, masks and the datalist; return how many items it has, in words."""
    for name in ("imagesTr", "labelsTr"):
        (out / name).mkdir()
    fold_of = folds_by_patient([each.subject for each in release.outlined if not each.synthetic])
    items: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for each in release.slices:
        items[each.mask is not None].append(write_item(out, each, fold_of))
    datalist = {
        "name": "auglift",
        "description": release.description,
        "licence": release.license_words,
        "release": release.summary["version"],
        "tensorImageSize": "2D",
        "modality": {str(channel): name for channel, name in enumerate(release.modalities)},
        "labels": {"0": "background", "1": "tumour"},
        "numTraining": len(items[True]),
        "numTest": 0,
        "training": items[True],
        UNOUTLINED: items[False],
        "test": [],
    }
    write_json(out / DATALIST, datalist)
    channels = len(release.modalities)
    (out / "README.md").write_text(
        README.format(
            marked=release.description,
            channels="a path" if channels == 1 else f"a list of {channels} paths, one a channel",
            unoutlined=UNOUTLINED,
        )
    )
    more = f", {len(items[False])} without an outline in {UNOUTLINED}" if items[False] else ""
    return f"{len(items[True])} items{more}"


def write_item(out: Path, each: Slice, fold_of: dict[str, int]) -> dict[str, Any]:
    """Copy a slice's files and describe it for the datalist."""
    images = [f"imagesTr/{path.name}" for path in each.images]
    for source, target in zip(each.images, images, strict=True):
        shutil.copyfile(source, out / target)
    item: dict[str, Any] = {"image": images[0] if len(images) == 1 else images}
    if each.mask is not None:
        shutil.copyfile(each.mask, out / "labelsTr" / each.mask.name)
        item["label"] = f"labelsTr/{each.mask.name}"
    item |= {
        "tumor": each.label,
        "origin": "synthetic" if each.synthetic else "real",
        "subject": each.subject,
        "fold": TRAINS_ALWAYS if each.synthetic else fold_of.get(each.subject, TRAINS_ALWAYS),
    }
    return item
