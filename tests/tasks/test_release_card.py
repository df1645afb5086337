"""What the data card tells a data-protection officer."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.tasks.augmented_fixtures import set_release
from tests.tasks.fake_run import Run, write
from tests.tasks.test_release import release


def card_of(root: Path) -> str:
    release(root)
    return (root / "data/release/DATACARD.md").read_text()


def change_stats(root: Path, **values: object) -> None:
    path = root / "data/slices/stats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path, Run(synthetic=2, accept_share=1.0, size=16))


def test_the_card_says_pseudonymised_and_states_legal_basis_and_impact_assessment(
    root: Path,
) -> None:
    card = card_of(root)
    assert "pseudonymised, not anonymous" in card
    assert "- Legal basis: not stated." in card
    assert "- Impact assessment: not stated." in card
    set_release(root, legal_basis="GDPR 9(2)(j), ethics vote 12/34", impact_assessment="DPIA 7")
    card = card_of(root)
    assert "- Legal basis: GDPR 9(2)(j), ethics vote 12/34." in card
    assert "- Impact assessment: DPIA 7." in card


@pytest.mark.parametrize(("stripped", "warned"), [(True, False), (False, True), (None, True)])
def test_the_card_warns_of_faces_unless_all_volumes_are_known_to_be_skull_stripped(
    stripped: bool | None, warned: bool, root: Path
) -> None:
    change_stats(root, skull_stripped=stripped)
    assert ("Faces may be seen" in card_of(root)) == warned


def test_patients_are_counted_by_partition_without_small_cells(root: Path) -> None:
    path = root / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    train = table.loc[table["partition_0"] == "train", "subject"].unique()
    table.loc[table["subject"].isin(train[:3]), "label"] = 0  # 9 of 12 have a tumour
    table.to_parquet(path)
    set_release(root, smallest_cell=5)
    assert "| 0 | train | 12 | not shown |" in card_of(root)  # 12 - 9 = 3 without
    val = table.loc[table["partition_0"] == "val", "subject"].unique()
    table.loc[table["subject"].isin(val[2:]), "partition_0"] = "unused"  # 2 patients
    table.to_parquet(path)
    set_release(root, smallest_cell=3)
    card = card_of(root)
    assert "| 0 | train | 12 | 9 |" in card
    assert "| 0 | val | <3 | not shown |" in card
    assert "| 0 | test | not shown | not shown |" in card  # another fold may tell their sum
    set_release(root, smallest_cell=5)
    card = card_of(root)  # now the four who were left out are few as well
    assert "| 0 | train | 12 | not shown |" in card
    assert "| 0 | val | <5 | not shown |" in card
    assert "| 0 | test | not shown | not shown |" in card  # 24 - 12 - 6 leaves 2 and 4 too little


def test_patients_whose_labels_are_hidden_are_not_counted_as_without_tumour(root: Path) -> None:
    path = root / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    train = table.loc[table["partition_0"] == "train", "subject"].unique()  # 12 of them
    table.loc[table["subject"].isin(train[:6]), "label"] = -1
    table.to_parquet(path)
    card = card_of(root)
    assert "| fold | partition | patients | with tumour slices | not known |" in card
    assert "| 0 | train | 12 | 6 | 6 |" in card
