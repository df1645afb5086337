"""What strangers send, and what a PACS answers beside the question, does no harm to a batch."""

import zlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tasks.commands.pacs import dimse
from tasks.commands.pacs.open_batch import InvalidInstanceError, read_key
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

    return encode_file_meta(dataset.file_meta)
