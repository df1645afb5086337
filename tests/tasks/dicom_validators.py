"""The validators of dicom3tools and DCMTK."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

UNKNOWN_TO_DCIODVFY = "(0x0008,0x001c)"  # Synthetic Data, which came into the standard later


def dicom_errors(paths: Iterable[Path]) -> list[str]:
    """What dciodvfy and dcmftest find wrong, but for the attribute that dciodvfy does not know."""
    for program, package in (("dciodvfy", "dicom3tools"), ("dcmftest", "dcmtk")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: {package})")
    errors, seen = [], 0
    for path in paths:
        seen += 1
        result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        errors += [
            f"{path.name}: {line}"
            for line in (result.stdout + result.stderr).splitlines()
            if "Error" in line and UNKNOWN_TO_DCIODVFY not in line
        ]
        result = subprocess.run(["dcmftest", path], capture_output=True, text=True, check=False)
        if result.returncode or not result.stdout.startswith("yes:"):
            errors.append(f"{path.name}: {result.stdout}{result.stderr}")
    assert seen
    return errors
