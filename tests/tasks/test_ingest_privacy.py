"""Who may read what ingest keeps to itself, and what is left of dates.

That nothing identifying leaves `data/raw/` is `tests/test_identities.py`.
"""

from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def test_only_the_owner_may_read_the_private_folder(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "a", anatomy((5, 9, 10)))
    workspace.ingest()
    for path in (workspace.root / ".private").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_dates_are_dropped_but_the_order_of_sessions_stays(workspace: IngestWorkspace) -> None:
    def at(date: str, uid: str):
        def change(_: int, dataset: FileDataset) -> None:
            dataset.StudyDate, dataset.StudyInstanceUID = date, uid

        return change

    write_series(workspace.raw / "a", anatomy((4, 8, 8)), seed="a", change=at("20210505", "1.2.1"))
    write_series(workspace.raw / "b", anatomy((5, 8, 8)), seed="b", change=at("20190505", "1.2.9"))
    manifest = workspace.ingest()
    depth = {row.session: row["shape"][2] for _, row in manifest.iterrows()}
    assert depth == {"ses-01": 5, "ses-02": 4}
