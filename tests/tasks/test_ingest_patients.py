"""Nobody's scans are refused, and two people are never merged into one."""

import json
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from tasks.ingest.core.placeholder_ids import is_placeholder
from tasks.ingest.privacy.pseudonyms import key_fingerprint
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import Room
from tests.tasks.test_ingest_nifti import ball, one_patient, write_nifti


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    return Room(tmp_path)


def person(room: Room, folder: str, number: str, name: str, birth: str = "") -> None:
    def change(_: int, dataset: FileDataset) -> None:
        dataset.PatientName, dataset.PatientBirthDate = name, birth
        dataset.StudyInstanceUID = f"1.2.{len(folder)}.{ord(folder[0])}"

    write_series(room.raw / folder, anatomy((3, 8, 8)), patient=number, seed=folder, change=change)


@pytest.mark.parametrize(
    "word", ["", " ", "ANON", "anonymous", "Anonymous^Patient", "0", "0000", "xxxx", "N/A", "none",
             "UNKNOWN", "-", "^", "de-identified", "No Name", "TEST", "REDACTED", "ANONYMISIERT",
             "anonimizado", "Anonymisé", "АНОНИМ", "geanonimiseerd", "PSEUDONYM^DATA", "XXX XXXX",
             "unbekannt", "Gelöscht", "INCONNU", "Not Available", "9999", "匿名"],
)  # fmt: skip
def test_placeholders_name_nobody(word: str) -> None:
    assert is_placeholder(word)


@pytest.mark.parametrize(
    "word",
    ["1", "11", "P1", "ANON12", "sub-01", "TCGA-CS-4941", "Doe^Jane", "Anonas", "山田", "X7"],
)
def test_short_and_numbered_ids_name_somebody(word: str) -> None:
    assert not is_placeholder(word)


def test_two_people_called_anonymous_are_refused_or_kept_apart(room: Room) -> None:
    person(room, "a", "ANON", "Anonymous")
    person(room, "b", "ANON", "")
    person(room, "c", "7", "Doe^Jane")
    assert len(room.ingest()) == 1
    assert room.codes() == ["patient-unknown"] * 6
    manifest = room.ingest(allow_unknown_patients=True)
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
def test_one_id_of_two_people_is_refused_or_split(
    room: Room, one: tuple[str, str], other: tuple[str, str]
) -> None:
    person(room, "a", "5", *one)
    person(room, "b", "5", *other)
    person(room, "c", "6", "Poe^Edgar")
    assert len(room.ingest()) == 1
    assert room.codes() == ["patient-ambiguous"] * 6
    manifest = room.ingest(allow_unknown_patients=True)
    assert manifest.subject.nunique() == 3
    assert sorted(manifest.patient_known) == [False, False, True]


def test_one_word_for_everybody_in_no_known_language_is_nobody(room: Room) -> None:
    for folder in ("a", "b"):
        person(room, folder, "KVXYQW", "Kvxyqw")
    person(room, "c", "MIRABILIS", "")  # one study only: nothing speaks against it
    person(room, "d", "8", "")
    person(room, "e", "8", "")
    assert room.ingest().subject.nunique() == 2
    assert room.codes() == ["patient-unknown"] * 6
    manifest = room.ingest(allow_unknown_patients=True)
    assert manifest.subject.nunique() == 4
    assert sorted(manifest.patient_known) == [False, False, True, True, True]


def test_a_word_with_a_birth_date_is_a_person(room: Room) -> None:
    for folder in ("a", "b"):
        person(room, folder, "DOE", "Doe", "19560301")
    assert room.ingest().subject.nunique() == 1
    assert room.codes() == []


def test_one_id_of_two_sexes_is_two_people(room: Room) -> None:
    for folder, sex in (("a", "F"), ("b", "M")):
        write_series(
            room.raw / folder, anatomy((3, 8, 8)), patient="5", seed=folder, PatientSex=sex
        )
    person(room, "c", "6", "Poe^Edgar")
    assert room.ingest().subject.nunique() == 1
    assert room.codes() == ["patient-ambiguous"] * 6


def test_spellings_of_one_person_are_one_person(room: Room) -> None:
    person(room, "a", "5", "Doe^Jane", "19600101")
    person(room, "b", "5", "DOE JANE M")
    person(room, "c", "5", "")
    person(room, "d", "5", "Roe^Jane", "19600101")  # married
    assert room.ingest().subject.nunique() == 1
    assert room.codes() == []


def test_placeholder_ids_give_way_to_names(room: Room) -> None:
    person(room, "a", "0", "Doe^Jane")
    person(room, "b", "0", "Roe^Richard")
    assert room.ingest().subject.nunique() == 2


def test_folders_name_patients_whose_files_do_not(room: Room) -> None:
    for patient in ("P1", "P2"):
        write_nifti(room.raw / f"{patient}/flair.nii.gz", anatomy((8, 9, 10)))
        write_nifti(room.raw / f"{patient}/seg.nii.gz", ball((8, 9, 10), (4, 4, 4)))
    write_nifti(room.raw / "t1.nii.gz", anatomy((8, 9, 10)))
    manifest = room.ingest()
    assert manifest.subject.nunique() == 2
    assert list(manifest.mask_status) == ["segmented"] * 2
    assert room.codes() == ["patient-unknown"]


def test_files_of_one_name_in_several_folders_are_not_merged(room: Room) -> None:
    for folder in ("A", "B"):
        write_nifti(room.raw / f"{folder}/001_flair.nii.gz", anatomy((8, 9, 10)))
    write_nifti(room.raw / "images/002_flair.nii.gz", anatomy((8, 9, 10)))
    write_nifti(room.raw / "labels/002_seg.nii.gz", ball((8, 9, 10), (4, 4, 4)))
    manifest = room.ingest()
    assert list(manifest.mask_status) == ["segmented"]
    assert room.codes() == ["patient-ambiguous"] * 2
    manifest = room.ingest(allow_unknown_patients=True)
    assert manifest.subject.nunique() == 3


def test_the_public_key_is_warned_of_and_kept_as_a_fact(
    room: Room, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_patient(room)
    (room.raw / "broken.dcm").write_bytes(b"")
    room.ingest()
    assert "public demo key" in capfd.readouterr().err
    facts = json.loads((room.volumes / "facts.json").read_text())
    assert facts == {
        "patients": 1, "volumes": 1, "masks": 0, "files": 2, "rejected": {"empty-file": 1},
        "patients_known": True, "public_key": True,
    }  # fmt: skip
    monkeypatch.setenv("AUGLIFT_KEY", "a secret")
    room.ingest(key_fingerprint=key_fingerprint(b"a secret"))
    assert "key" not in capfd.readouterr().err
    assert not json.loads((room.volumes / "facts.json").read_text())["public_key"]
