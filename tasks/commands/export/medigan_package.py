"""Write a folder from which medigan (Osuala 2023, doi 10.1117/1.JMI.10.6.061403) runs a generator.

medigan looks for `config/global.json` and `models/MODEL/PACKAGE/` below the current folder, so
started here it finds both and fetches nothing. The zip file is what a contribution uploads.
"""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from tasks.commands.export import vendored_modules
from tasks.commands.export.standalone_generator import WEIGHTS_FILE, GeneratorInfo

MODEL = "AUGLIFT_DCGAN_BRAIN_MRI"
PACKAGE = "auglift_dcgan"
DEPENDENCIES = ["nibabel", "numpy", "Pillow", "safetensors", "scikit-image", "scipy", "torch"]

README = """# Synthetic brain MRI slices with tumour masks

SYNTHETIC. A conditional DCGAN that draws {modalities} slices of {size} x {size} pixels with their
tumour masks. They show no person. Not for diagnosis.

From this folder, with medigan installed:

    from medigan import Generators
    Generators().generate(model_id="{model}", num_samples=16, label="tumor", seed=7)

`label` is tumor, none or both. The first slices of a seed stay the same whatever their number.
The package also runs by itself: `generate` in `models/{model}/{package}/__init__.py`.

The gate's verdict on what this generator drew: {verdict}
Can it be told who trained? {membership}
Licence: {license_words}
"""


def write_package(out: Path, info: GeneratorInfo, weights: Path) -> None:
    """Write medigan's two folders to an empty one."""
    (out / "config").mkdir()
    package = out / "models" / MODEL / PACKAGE
    vendored_modules.copy_modules(
        Path(__file__).with_name("medigan_entrypoint.py"), package, name="__init__"
    )
    shutil.copyfile(weights, package / WEIGHTS_FILE)
    info.save(package)
    readme = README.format(
        modalities=" and ".join(info.modalities),
        size=info.architecture["size"],
        model=MODEL,
        package=PACKAGE,
        verdict=info.verdict,
        membership=info.membership,
        license_words=info.license_words,
    )
    for folder in (out, package):
        (folder / "README.md").write_text(readme)
    write_zip(package)
    entry = json.dumps({MODEL: catalogue_entry(info)}, indent=4)
    (out / "config/global.json").write_text(entry + "\n")


def write_zip(package: Path) -> None:
    """Write the package as a zip file beside it; the same files give the same bytes."""
    with zipfile.ZipFile(package.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.iterdir()):
            member = zipfile.ZipInfo(f"{package.name}/{path.name}")  # dated 1980
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes())


def catalogue_entry(info: GeneratorInfo) -> dict[str, Any]:
    """Return the model's entry in `global.json`."""
    size = info.architecture["size"]
    tags = ["brain", "MRI", *info.modalities, "tumour", "mask", "synthetic"]
    return {
        "execution": {
            "package_name": PACKAGE,
            "package_link": f"models/{MODEL}/{PACKAGE}.zip",
            "model_name": Path(WEIGHTS_FILE).stem,
            "extension": Path(WEIGHTS_FILE).suffix,
            "image_size": [size, size],
            "dependencies": DEPENDENCIES,
            "generate_method": {
                "name": "generate",
                "args": {
                    "base": ["model_file", "num_samples", "output_path", "save_images"],
                    "custom": {"label": "both", "seed": 0},
                },
                "input_latent_vector_size": info.architecture["latent"],
            },
        },
        "selection": {
            "performance": {},
            "use_cases": ["classification", "segmentation"],
            "organ": ["brain"],
            "modality": ["MRI", *info.modalities],
            "vendors": [],
            "centres": [],
            "function": ["noise to image", "image generation", "data augmentation"],
            "condition": ["tumour or none"],
            "dataset": [],
            "augmentations": [],
            "generates": ["axial slices", "tumour masks"],
            "height": size,
            "width": size,
            "depth": None,
            "type": "DCGAN",
            "license": info.license_words,
            "dataset_type": "see its makers",
            "privacy_preservation": None,
            "tags": tags,
            "year": "",
        },
        "description": {
            "title": "DCGAN for brain MRI slices with tumour masks, made by auglift",
            "provided_date": None,
            "trained_date": None,
            "provided_after_epoch": None,
            "version": info.version,
            "publication": None,
            "doi": [],
            "inputs": [
                "label: default=both, help=tumor, none or both",
                "seed: default=0, help=another seed draws other slices",
            ],
            "comment": f"SYNTHETIC slices of no person. Verdict of the gate: {info.verdict}.",
        },
    }
