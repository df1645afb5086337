"""What strangers send, and what a PACS answers beside the question, does no harm to a batch."""

import zlib
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom.pdu import A_RELEASE_RQ

from tasks.commands.pacs import dimse
from tasks.commands.pacs.listen import Receiver
from tasks.commands.pacs.open_batch import InvalidInstanceError, keys_of, read_key
from tests.tasks.dicom_cases import anatomy, write_series


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """Three instances of a series; the folder is empty."""
    write_series(tmp_path / "source", anatomy((3, 9, 10)))
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    return [pydicom.dcmread(path) for path in sorted((tmp_path / "source").glob("*.dcm"))]


def as_file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_deflated_data_set_is_refused_without_inflating_it(
    series: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    series[0].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = as_file(series[0])

    def inflate(*_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(zlib, "decompress", inflate)
    with pytest.raises(InvalidInstanceError, match="deflated"):
        read_key(data)
    assert DeflatedExplicitVRLittleEndian not in dimse.RECEIVED


def test_bytes_that_break_the_reader_are_an_invalid_instance(series: list[Dataset]) -> None:
    data = as_file(series[0])
    for end in range(132, 500, 7):
        with pytest.raises(InvalidInstanceError):
            read_key(data[:end])
    nested = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff"
    with pytest.raises(InvalidInstanceError):
        read_key(
            data[:132]
            + as_meta(series[0])
            + b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff"
            + nested * 3000
        )


def as_meta(dataset: Dataset) -> bytes:
    """The bytes of the file meta information."""
    from pynetdicom.dsutils import encode_file_meta

    return bytes(encode_file_meta(dataset.file_meta))


def store(receiver: Receiver, sender: object, dataset: Dataset) -> int:
    """Let a receiver store a data set, as pynetdicom would."""
    event: Any = SimpleNamespace(assoc=sender, encoded_dataset=lambda: as_file(dataset))
    return receiver.on_store(event)


def end(receiver: Receiver, sender: object, *calls: str) -> None:
    """Let a receiver know how an association ends."""
    event: Any = SimpleNamespace(assoc=sender, pdu=A_RELEASE_RQ())
    for call in calls:
        getattr(receiver, call)(event)


def test_a_study_that_found_no_room_waits_until_it_is_sent_again(
    series: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    receiver = Receiver(Path("raw"), "pacs", lines.append)
    with monkeypatch.context() as full:
        assert store(receiver, "a", series[0]) == 0

        def write(*_: object) -> int:
            raise OSError(28, "No space left on device")

        full.setattr(Path, "write_bytes", write)
        assert store(receiver, "a", series[1]) == 0xA700
    end(receiver, "a", "on_message", "on_release", "on_close")
    assert "1 studies stay open" in lines[-1]
    assert receiver.close_if_quiet(0) is None
    for dataset in series:
        assert store(receiver, "b", dataset) == 0
    end(receiver, "b", "on_message", "on_release", "on_close")
    batch = receiver.close_if_quiet(0)
    assert batch is not None
    assert len(keys_of(batch)) == 3
    assert lines[-1].endswith("1 studies, 3 instances; 1 instances were refused")


def test_a_connection_that_closes_before_its_release_is_noted_did_not_break_off(
    series: list[Dataset],
) -> None:
    lines: list[str] = []
    receiver = Receiver(Path("raw"), "pacs", lines.append)
    assert store(receiver, "a", series[0]) == 0
    end(receiver, "a", "on_message", "on_close", "on_release")
    assert lines == []
    assert receiver.close_if_quiet(0) is not None


def test_connections_without_images_keep_no_batch_open(series: list[Dataset]) -> None:
    receiver = Receiver(Path("raw"), "pacs", lambda _: None)
    assert store(receiver, "a", series[0]) == 0
    end(receiver, "a", "on_message", "on_release", "on_close")
    receiver.last -= 100
    end(receiver, "echo", "on_open", "on_message", "on_release", "on_close")
    end(receiver, "stranger", "on_close")
    assert receiver.close_if_quiet(50) is not None
