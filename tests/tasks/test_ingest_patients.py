"""Nobody's scans are refused, and two people are never merged into one."""

import json
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from tasks.ingest.core.placeholder_ids import is_placeholder
from tasks.ingest.privacy.pseudonyms import key_fingerprint
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import ball, one_patient, write_nifti


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def person(
    workspace: IngestWorkspace, folder: str, number: str, name: str, birth: str = ""
) -> None:
    def change(_: int, dataset: FileDataset) -> None:
        dataset.PatientName, dataset.PatientBirthDate = name, birth
        dataset.StudyInstanceUID = f"1.2.{len(folder)}.{ord(folder[0])}"

    write_series(
        workspace.raw / folder, anatomy((3, 8, 8)), patient=number, seed=folder, change=change
    )


@pytest.mark.parametrize(
    "word", ["", " ", "ANON", "anonymous", "Anonymous^Patient", "0", "0000", "xxxx", "N/A", "none",
             "UNKNOWN", "-", "^", "de-identified", "No Name", "TEST", "REDACTED", "ANONYMISIERT",
             "anonimizado", "Anonymisé", "АНОНИМ", "geanonimiseerd", "PSEUDONYM^DATA", "XXX XXXX",
             "unbekannt", "Gelöscht", "INCONNU", "Not Available", "9999", "匿名"],
)  # fmt: skip
def test_placeholders_name_no_patient(word: str) -> None:
    assert is_placeholder(word)


@pytest.mark.parametrize(
    "word",
    ["1", "11", "P1", "ANON12", "sub-01", "TCGA-CS-4941", "Doe^Jane", "Anonas", "山田", "X7"],
)
def test_short_and_numbered_ids_name_a_patient(word: str) -> None:
    assert not is_placeholder(word)


def test_two_patients_called_anonymous_are_rejected_or_kept_apart(
    workspace: IngestWorkspace,
) -> None:
    person(workspace, "a", "ANON", "Anonymous")
    person(workspace, "b", "ANON", "")
    person(workspace, "c", "7", "Doe^Jane")
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["patient-unknown"] * 6
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert manifest.subject.nunique() == 3
    assert sorted(manifest.patient_known) == [False, False, True]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Doe^Jane", "19600101"), ("Doe^Jane", "19700101")),
        (("Doe^Jane", ""), ("Roe^Richard", "")),
        (("Doe^Jane", "19600101"), ("Roe^Richard", "")),
    ],
)
def test_one_id_of_two_patients_is_rejected_or_split(
    workspace: IngestWorkspace, one: tuple[str, str], other: tuple[str, str]
) -> None:
    person(workspace, "a", "5", *one)
    person(workspace, "b", "5", *other)
    person(workspace, "c", "6", "Poe^Edgar")
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["patient-ambiguous"] * 6
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert manifest.subject.nunique() == 3
    assert sorted(manifest.patient_known) == [False, False, True]


def test_one_word_for_all_patients_in_an_unlisted_language_is_a_placeholder(
    workspace: IngestWorkspace,
) -> None:
    for folder in ("a", "b"):
        person(workspace, folder, "KVXYQW", "Kvxyqw")
    person(workspace, "c", "MIRABILIS", "")  # one study only: nothing speaks against it
    person(workspace, "d", "8", "")
    person(workspace, "e", "8", "")
    assert workspace.ingest().subject.nunique() == 2
    assert workspace.codes() == ["patient-unknown"] * 6
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert manifest.subject.nunique() == 4
    assert sorted(manifest.patient_known) == [False, False, True, True, True]


def test_a_word_with_a_birth_date_is_a_patient(workspace: IngestWorkspace) -> None:
    for folder in ("a", "b"):
        person(workspace, folder, "DOE", "Doe", "19560301")
    assert workspace.ingest().subject.nunique() == 1
    assert workspace.codes() == []


def test_one_id_of_two_sexes_is_two_patients(workspace: IngestWorkspace) -> None:
    for folder, sex in (("a", "F"), ("b", "M")):
        write_series(
            workspace.raw / folder, anatomy((3, 8, 8)), patient="5", seed=folder, PatientSex=sex
        )
    person(workspace, "c", "6", "Poe^Edgar")
    assert workspace.ingest().subject.nunique() == 1
    assert workspace.codes() == ["patient-ambiguous"] * 6


def test_spellings_of_one_name_are_one_patient(workspace: IngestWorkspace) -> None:
    person(workspace, "a", "5", "Doe^Jane", "19600101")
    person(workspace, "b", "5", "DOE JANE M")
    person(workspace, "c", "5", "")
    person(workspace, "d", "5", "Roe^Jane", "19600101")  # married
    assert workspace.ingest().subject.nunique() == 1
    assert workspace.codes() == []


def test_placeholder_ids_give_way_to_names(workspace: IngestWorkspace) -> None:
    person(workspace, "a", "0", "Doe^Jane")
    person(workspace, "b", "0", "Roe^Richard")
    assert workspace.ingest().subject.nunique() == 2


def test_folders_name_patients_whose_files_do_not(workspace: IngestWorkspace) -> None:
    for patient in ("P1", "P2"):
        write_nifti(workspace.raw / f"{patient}/flair.nii.gz", anatomy((8, 9, 10)))
        write_nifti(workspace.raw / f"{patient}/seg.nii.gz", ball((8, 9, 10), (4, 4, 4)))
    write_nifti(workspace.raw / "t1.nii.gz", anatomy((8, 9, 10)))
    manifest = workspace.ingest()
    assert manifest.subject.nunique() == 2
    assert list(manifest.mask_status) == ["segmented"] * 2
    assert workspace.codes() == ["patient-unknown"]


def test_files_of_one_name_in_several_folders_are_not_merged(workspace: IngestWorkspace) -> None:
    for folder in ("A", "B"):
        write_nifti(workspace.raw / f"{folder}/001_flair.nii.gz", anatomy((8, 9, 10)))
    write_nifti(workspace.raw / "images/002_flair.nii.gz", anatomy((8, 9, 10)))
    write_nifti(workspace.raw / "labels/002_seg.nii.gz", ball((8, 9, 10), (4, 4, 4)))
    manifest = workspace.ingest()
    assert list(manifest.mask_status) == ["segmented"]
    assert workspace.codes() == ["patient-ambiguous"] * 2
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert manifest.subject.nunique() == 3


def test_the_public_key_gives_a_warning_and_stands_in_the_facts(
    workspace: IngestWorkspace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_patient(workspace)
    (workspace.raw / "broken.dcm").write_bytes(b"")
    workspace.ingest()
    assert "public demo key" in capfd.readouterr().err
    facts = json.loads((workspace.volumes / "facts.json").read_text())
    assert facts == {
        "patients": 1, "volumes": 1, "masks": 0, "files": 2, "rejected": {"empty-file": 1},
        "patients_known": True, "public_key": True,
    }  # fmt: skip
    monkeypatch.setenv("AUGLIFT_KEY", "a secret")
    workspace.ingest(key_fingerprint=key_fingerprint(b"a secret"))
    assert "key" not in capfd.readouterr().err
    assert not json.loads((workspace.volumes / "facts.json").read_text())["public_key"]
