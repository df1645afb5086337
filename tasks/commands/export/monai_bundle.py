"""Write a generator as a MONAI bundle (https://docs.monai.io/en/latest/mb_specification.html).

The weights are safetensors instead of the specification's `model.pt`, which is a pickle.
"""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.dcgan import LABELS
from tasks.commands.export import vendored_modules
from tasks.commands.export.standalone_generator import WEIGHTS_FILE, GeneratorInfo

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
PACKAGES = ("nibabel", "safetensors", "scipy")

INFERENCE: dict[str, Any] = {
    "imports": ["$from scripts.monai_components import write_slices"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/output'",
    "device": "cpu",
    "count": 16,
    "label": "both",
    "seed": 0,
    "network_def": {
        "_target_": "scripts.monai_components.SliceGenerator",
        "folder": "$@bundle_root + '/models'",
    },
    "run": ["$write_slices(@network_def, @output_dir, count=@count, label=@label, seed=@seed)"],
}

README = """# Synthetic brain MRI slices with tumour masks

SYNTHETIC. A conditional DCGAN that draws {modalities} slices of {size} x {size} pixels of
{pixel_mm:g} mm with their tumour masks. They show no person. Not for diagnosis.

From this folder, with MONAI, nibabel, safetensors and scipy installed:

    python -m monai.bundle run --config_file configs/inference.json --meta_file \\
        configs/metadata.json --count 16 --label tumor --seed 7 --output_dir output

`--label` is tumor, none or both. The first slices of a seed stay the same whatever the count.
Slices are NIfTI files; the mask of a slice lies beside it.

The gate's verdict on what this generator drew: {verdict}
Can it be told who trained? {membership}
Licence: {license_words}

The weights are `models/generator.safetensors`; there is no `model.pt`, which would be a pickle.
"""


def write_bundle(out: Path, info: GeneratorInfo, weights: Path) -> None:
    """Write the bundle to an empty folder."""
    for name in ("configs", "docs", "models"):
        (out / name).mkdir()
    shutil.copyfile(weights, out / "models" / WEIGHTS_FILE)
    info.save(out / "models")
    vendored_modules.copy_modules(Path(__file__).with_name("monai_components.py"), out / "scripts")
    for name, tree in {"inference": INFERENCE, "metadata": metadata(info)}.items():
        (out / f"configs/{name}.json").write_text(json.dumps(tree, indent=4) + "\n")
    (out / "docs/README.md").write_text(
        README.format(
            modalities=" and ".join(info.modalities),
            size=info.architecture["size"],
            pixel_mm=info.pixel_mm,
            verdict=info.verdict,
            membership=info.membership,
            license_words=info.license_words,
        )
    )


def metadata(info: GeneratorInfo) -> dict[str, Any]:
    """Return `metadata.json` with the keys that the specification requires."""
    size, channels = info.architecture["size"], len(info.modalities)
    return {
        "schema": SCHEMA,
        "version": info.version,
        "changelog": {info.version: "exported by auglift"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in PACKAGES},
        "supported_apps": {},
        "name": "auglift slice generator",
        "task": "Synthesis of 2D brain MRI slices with tumour masks",
        "description": "A conditional DCGAN that draws a slice and its tumour mask together",
        "authors": "auglift",
        "copyright": info.license_words,
        "data_source": "see docs/README.md",
        "data_type": "nibabel",
        "image_classes": "SYNTHETIC slices in [-1, 1], air at -1",
        "label_classes": "0 no tumour, 1 tumour",
        "pred_classes": "tumour mask: above 0 inside",
        "eval_metrics": {},
        "intended_use": f"Data augmentation, not diagnosis. Gate's verdict: {info.verdict}",
        "references": ["Radford et al. 2016, arXiv 1511.06434"],
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "noise",
                    "format": "latent",
                    "modality": "n/a",
                    "num_channels": info.architecture["latent"] + LABELS,
                    "spatial_shape": [1, 1],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {"0": "standard normal noise; last two: label scores"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": channels + 1,
                    "spatial_shape": [size, size],
                    "dtype": "float32",
                    "value_range": [-1, 1],
                    "is_patch_data": False,
                    "channel_def": {
                        str(place): name
                        for place, name in enumerate([*info.modalities, "tumour mask"])
                    },
                }
            },
        },
    }
