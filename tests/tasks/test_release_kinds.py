"""The validators find no error in any kind of release."""

import json
from pathlib import Path

import pytest

from tests.tasks.augmented_fixtures import augmented_run, set_release
from tests.tasks.dicom_validators import dicom_errors
from tests.tasks.fake_run import Run, write
from tests.tasks.test_release import release
from tests.tasks.test_release_bids import bids_errors

KINDS = [  # contents, burnt-in mark, modalities, folds
    ("synthetic", True, ["T1"], ["0"]),
    ("synthetic", False, ["T1c", "other"], ["0", "1"]),
    ("synthetic", True, ["T2", "FLAIR", "other"], ["0", "1"]),
    ("synthetic", False, ["other"], ["2", "7"]),
    ("augmented", True, ["FLAIR"], ["0", "1"]),
    ("augmented", False, ["T1c"], ["0"]),
    ("augmented", True, ["T1", "T2"], ["0", "1"]),
    ("augmented", False, ["other"], ["0"]),
]


@pytest.mark.verify
@pytest.mark.parametrize(("contents", "burnt_in", "modalities", "folds"), KINDS)
def test_no_validator_finds_an_error(
    contents: str, burnt_in: bool, modalities: list[str], folds: list[str], tmp_path: Path
) -> None:
    if contents == "augmented":
        root = augmented_run(tmp_path, synthetic=3, size=32, channels=len(modalities), folds=folds)
    else:
        run = Run(synthetic=3, accept_share=1.0, size=32, channels=len(modalities), folds=folds)
        root = write(tmp_path, run)
    path = root / "data/slices/stats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modalities": modalities}))
    set_release(root, burn_in_mark=burnt_in)
    assert release(root)["status"] == "released"
    folder = root / "data/release"
    files = sorted((folder / "dicom").rglob("*.dcm"))
    assert {file.name for file in files} >= {"mask.dcm"}
    assert len(files) >= len(modalities) * 3
    assert dicom_errors(files[: 2 * len(modalities) + 2]) == []
    assert bids_errors(folder / "bids") == []
