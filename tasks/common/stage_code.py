"""List the code files that decide a stage's result, from its `deps` in `dvc.yaml`."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ("tasks/", "models/")


def code_files(stage: str) -> list[Path]:
    """Return the Python files among a stage's `deps`, sorted.

    A test holds that the `deps` name every first-party module that a stage imports, so a hash over
    these files forgets none.
    """
    tree = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    deps = tree.get("do", tree)["deps"]  # below `do` where the stage is a `foreach`
    places = [ROOT / dep for dep in deps if dep.startswith(PACKAGES)]
    files = (place.rglob("*.py") if place.is_dir() else [place] for place in places)
    return sorted({file for found in files for file in found})


def update_with_files(digest: "hashlib._Hash", files: Iterable[Path]) -> None:
    """Add the names and contents of files to a hash."""
    for path in files:
        digest.update(path.name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
