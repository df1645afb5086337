"""A training patient whose labels `slices.unlabelled_patients` hides, in release and report."""

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.tasks.augmented_fixtures import augmented_run
from tests.tasks.slices_fixtures import hide_patient
from tests.tasks.test_release import release
from tests.tasks.test_report import Page, run_stage

HIDDEN = "sub-0002"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release and report of an augmented run with twelve training patients, one hidden."""
    root = augmented_run(tmp_path_factory.mktemp("hidden") / "run", unoutlined=False)
    hide_patient(root, HIDDEN)
    release(root)
    run_stage(root)
    return root


def test_a_release_holds_its_slices_without_label_area_or_outline(root: Path) -> None:
    folder = root / "data/release"
    table = pd.read_csv(folder / "slices.csv")
    hidden = table[table["subject"] == HIDDEN]
    assert hidden["label"].tolist() == [-1] * 4
    assert not hidden["mask_known"].any() and hidden["tumor_area_mm2"].isna().all()
    assert (table.loc[table["subject"] != HIDDEN, "label"] >= 0).all()
    for name in hidden["name"]:
        assert list(folder.rglob(f"{name}_FLAIR.nii.gz"))
        assert not list(folder.rglob(f"{name}_label*")) and not list(folder.rglob(f"{name}*.png"))
    assert "Of 4 of them no outline is known" in (folder / "DATACARD.md").read_text()


def test_the_report_counts_its_slices_as_unlabelled(root: Path) -> None:
    words = Page((root / "data/report.html").read_text()).words
    assert re.search(r"training 12 48 22 22 4\b", words)
