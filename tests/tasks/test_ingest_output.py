"""What ingest writes of a batch: its tables, its bytes, and what stays private."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tasks.ingest.__main__ import main
from tasks.ingest.privacy.pseudonyms import DEMO_KEY, key_fingerprint
from tasks.params.ingest import Ingest
from tasks.schemas.manifest import Manifest
from tasks.schemas.rejected import Rejected
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import ball, one_patient


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def test_the_manifest_has_its_columns(workspace: IngestWorkspace) -> None:
    one_patient(workspace, ball((8, 9, 10), (4, 4, 4)))
    (workspace.raw / "participants.tsv").write_text("participant_id\tsite\nsub-01\tB\n")
    row = workspace.ingest().iloc[0]
    assert row.subject.startswith("sub-") and len(row.subject) == 16
    assert row.modality == "FLAIR"
    assert row.mask_status == "segmented"
    assert list(row["shape"]) == [8, 9, 10]
    assert list(row.spacing_mm) == [0.9, 0.9, 5.5]
    assert row.source_format == "nifti"
    assert row.site == "B"
    assert not row.synthetic
    assert workspace.codes() == []
    assert workspace.accounts_for_every_file()


def test_a_batch_twice_gives_the_same_bytes(workspace: IngestWorkspace) -> None:
    one_patient(workspace, ball((8, 9, 10), (4, 4, 4)))
    (workspace.raw / "broken.nii.gz").write_bytes(b"no gzip")
    write_series(workspace.raw / "x", anatomy((4, 8, 8)))

    def contents() -> dict[str, bytes]:
        files = [path for path in workspace.volumes.rglob("*") if path.is_file()]
        return {str(path.relative_to(workspace.volumes)): path.read_bytes() for path in files}

    workspace.ingest()
    first = contents()
    workspace.ingest()
    assert contents() == first


def test_a_batch_without_readable_files_ends_in_one_line(workspace: IngestWorkspace) -> None:
    workspace.raw.mkdir(parents=True)
    (workspace.raw / "x.dcm").write_bytes(b"")
    message = r"no volume could be read \(1 empty-file\); for empty-file: fetch the file"
    with pytest.raises(InputError, match=message):
        workspace.ingest()
    (workspace.raw / "x.dcm").unlink()
    with pytest.raises(InputError, match="holds no image; put DICOM"):
        workspace.ingest()
    assert not workspace.volumes.exists()


def test_a_missing_batch_names_the_key_and_the_remedy(workspace: IngestWorkspace) -> None:
    (workspace.root / "params.yaml").write_text(yaml.safe_dump({"ingest": {}}))
    with pytest.raises(InputError, match=r"data\.batches.*take it out"):
        main("nowhere")


def test_both_tables_are_written_with_their_types_when_empty(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    workspace.ingest()
    rejected = pd.read_parquet(workspace.volumes / "rejected.parquet")
    assert list(rejected.columns) == ["token", "code", "reason", "remedy"]
    assert not len(rejected)


def test_true_paths_stay_in_the_private_folder(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    (workspace.raw / "Doe_Jane.docx").write_bytes(b"text")
    workspace.ingest()
    private = workspace.private("rejected")
    rejected = pd.read_parquet(workspace.volumes / "rejected.parquet")
    assert list(private.columns) == ["token", "path", "code"]
    assert list(private.path) == ["Doe_Jane.docx"]
    assert list(private.token) == list(rejected.token)
    assert not any(b"Doe" in path.read_bytes() for path in workspace.volumes.rglob("*.parquet"))


def test_another_key_gives_other_pseudonyms_and_must_match_its_fingerprint(
    workspace: IngestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_patient(workspace)
    with_demo = workspace.ingest().subject[0]
    monkeypatch.setenv("AUGLIFT_KEY", "a secret")
    with pytest.raises(InputError, match="key_fingerprint"):
        workspace.ingest()
    manifest = workspace.ingest(key_fingerprint=key_fingerprint(b"a secret"))
    assert manifest.subject[0] != with_demo


def test_the_default_fingerprint_is_the_demo_keys() -> None:
    assert Ingest().key_fingerprint == key_fingerprint(DEMO_KEY)


def test_the_tables_fit_the_schemas_of_their_readers(workspace: IngestWorkspace) -> None:
    one_patient(workspace, ball((8, 9, 10), (4, 4, 4)))
    (workspace.raw / "broken.dcm").write_bytes(b"")
    manifest = Manifest.validate(workspace.ingest(), lazy=True)
    assert set(manifest.columns) == set(Manifest.to_schema().columns)
    rejected = Rejected.validate(pd.read_parquet(workspace.volumes / "rejected.parquet"))
    assert set(rejected.columns) == set(Rejected.to_schema().columns)
