"""Planted identities must not be found in anything that leaves `data/raw/` and `.private/`."""

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from .dicom_cases import anatomy, write_segmentation, write_series
from .ingest_room import Room
from .test_ingest_nifti import write_nifti

PLANTED = [
    "Mustermann", "Erika", "19561103", "4711-0815", "Charite", "PRIVATE-NOTE", "20200102",
    "101500", "STATION-7", "sub-Mustermann", "ACC-998877", "1.2.826.0.1.99.4242",
]  # fmt: skip


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    return Room(tmp_path)


def plant(_: int, dataset: FileDataset) -> None:
    dataset.PatientName = "Mustermann^Erika"
    dataset.PatientBirthDate = "19561103"
    dataset.InstitutionName = "Charite-Mitte"
    dataset.StationName = "STATION-7"
    dataset.AccessionNumber = "ACC-998877"
    dataset.SeriesDescription = "FLAIR Mustermann"
    dataset.StudyInstanceUID = "1.2.826.0.1.99.4242.1"
    dataset.FrameOfReferenceUID = "1.2.826.0.1.99.4242.2"
    dataset.private_block(0x0051, "SIEMENS", create=True).add_new(1, "LO", "PRIVATE-NOTE")


def fill(room: Room) -> None:
    folder = room.raw / "Mustermann_Erika_19561103"
    write_series(folder, anatomy((5, 9, 10)), patient="4711-0815", change=plant)
    write_segmentation(folder / "seg_Mustermann.dcm", folder, anatomy((5, 9, 10)) * 0 + 1)
    write_nifti(room.raw / "sub-Mustermann/anat/sub-Mustermann_FLAIR.nii.gz", anatomy((5, 9, 10)))
    (room.raw / "participants.tsv").write_text("participant_id\tsite\nsub-Mustermann\tCharite\n")
    write_series(room.raw / "Erika_short", anatomy((2, 9, 10)), patient="Erika", change=plant)
    write_series(
        room.raw / "Erika_shear", anatomy((5, 9, 10)), patient="Erika2", change=plant,
        step=(0, 1, 4), seed="shear",
    )  # fmt: skip
    (room.raw / "Mustermann.docx").write_bytes(b"Mustermann")
    packed = room.root / "packed"
    write_series(packed / "Erika", anatomy((5, 9, 10)), patient="Mustermann3", change=plant)
    write_series(packed / "Charite-Mitte", anatomy((2, 9, 10)), patient="Erika4", change=plant)
    with zipfile.ZipFile(room.raw / "Mustermann.zip", "w") as archive:
        for path in sorted(packed.rglob("*.dcm")):
            archive.write(path, path.relative_to(packed))
    broken = bytearray((folder / "slice000.dcm").read_bytes())
    broken[300:340] = b"\xff" * 40
    (room.raw / "Erika_broken.dcm").write_bytes(bytes(broken))


def contents(folder: Path) -> dict[str, bytes]:
    """Names and bytes of all files, gzip opened, parquet decoded."""
    import pandas as pd

    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = name.encode()
        if path.is_file():
            found[name] += path.read_bytes()
            if path.suffix == ".gz":
                found[name] += gzip.decompress(path.read_bytes())
            if path.suffix == ".parquet":
                found[name] += pd.read_parquet(io.BytesIO(path.read_bytes())).to_csv().encode()
    return found


def test_no_planted_identity_is_found_in_outputs_or_logs(
    room: Room, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(room)
    manifest = room.ingest()
    logs = capfd.readouterr()
    everything = contents(room.volumes) | {"log": (logs.out + logs.err).encode()}
    assert len(manifest) == 3
    assert len(room.codes()) == 5
    for secret in PLANTED:
        for name, content in everything.items():
            assert secret.lower().encode() not in content.lower(), (secret, name)


def test_what_the_private_folder_holds_only_its_owner_may_read(room: Room) -> None:
    fill(room)
    room.ingest()
    for path in (room.root / ".private").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_dates_are_dropped_but_the_order_of_sessions_stays(room: Room) -> None:
    def at(date: str, uid: str):
        def change(_: int, dataset: FileDataset) -> None:
            dataset.StudyDate, dataset.StudyInstanceUID = date, uid

        return change

    write_series(room.raw / "a", anatomy((4, 8, 8)), seed="a", change=at("20210505", "1.2.1"))
    write_series(room.raw / "b", anatomy((5, 8, 8)), seed="b", change=at("20190505", "1.2.9"))
    manifest = room.ingest()
    depth = {row.session: row["shape"][2] for _, row in manifest.iterrows()}
    assert depth == {"ses-01": 5, "ses-02": 4}
