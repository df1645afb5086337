"""What strangers send, and what a PACS answers beside the question, does no harm to a batch."""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom.pdu import A_RELEASE_RQ

from tasks.commands.pacs import dicomweb, storage_server
from tasks.commands.pacs.addresses import Credentials, DimsePeer, WebPeer
from tasks.commands.pacs.filter_check import matches
from tasks.commands.pacs.listen import Receiver
from tasks.commands.pacs.open_batch import (
    CLOSING,
    InstanceKey,
    InvalidInstanceError,
    OpenBatch,
    check_batch_name,
    keys_of,
    read_key,
)
from tasks.commands.pacs.pull import pull
from tasks.commands.pacs.sources import DimseSource, Filters, Save, WebSource
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.pacs_fixtures import faulty_pacs


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
    assert DeflatedExplicitVRLittleEndian not in storage_server.RECEIVED


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


@dataclass
class Archive:
    """A PACS in memory: it sends what is asked for, and `besides` whenever anything is."""

    datasets: list[Dataset]
    found: list[InstanceKey] = field(default_factory=list)
    besides: list[Dataset] = field(default_factory=list)
    late_s: float = 0.0
    refused: int = 0

    def find(self, filters: Filters) -> list[InstanceKey]:
        return [*map(key_of, self.datasets), *self.found]

    @contextmanager
    def ready(self, save: Save) -> Iterator[None]:
        self.save = save
        yield

    def fetch(self, series: Sequence[InstanceKey], *, whole: bool) -> str | None:
        sent = [each for each in self.datasets if whole or key_of(each) in series]
        for dataset in [*sent, *self.besides]:
            try:
                self.save(as_file(dataset))
            except InvalidInstanceError:
                self.refused += 1
        return None


def key_of(dataset: Dataset) -> InstanceKey:
    return read_key(as_file(dataset))


def test_a_pull_takes_neither_what_another_batch_holds_nor_what_nobody_asked_for(
    series: list[Dataset],
) -> None:
    pull(Archive(series[:1]), Filters(), "ward7")
    stranger = series[2].copy()
    stranger.StudyInstanceUID = "1.2.3.4"
    archive = Archive(series, besides=[stranger])
    result = pull(archive, Filters(), "ward8", skip=[Path("data/raw/ward7")])
    assert result.closed
    assert keys_of(Path("data/raw/ward8")) == {key_of(each) for each in series[1:]}
    assert archive.refused == 1


def test_an_instance_without_usable_uid_is_a_failure(series: list[Dataset]) -> None:
    bad = InstanceKey("1.2.3", "1.2.4", "1.2.840.ABC")
    result = pull(Archive(series, found=[bad]), Filters(), "ward")
    assert (result.matched, result.fetched, result.closed) == (4, 3, False)
    assert result.failures == {bad: "the PACS gives it no usable UID"}
    assert pull(Archive(series, found=[bad]), Filters(), "ward", accept_missing=True).closed


def test_no_pull_works_in_the_open_batch_of_a_listener(series: list[Dataset]) -> None:
    receiver = Receiver(Path("data/raw"), "pacs", lambda _: None)
    assert store(receiver, "a", series[0]) == 0
    for name in ("pacs-open", "pacs-listening", "pacs.listening"):
        assert OpenBatch(Path("data/raw") / name).folder != receiver.batch.folder
    with pytest.raises(InputError):
        check_batch_name(receiver.batch.target.name)


def test_a_listener_takes_back_its_own_interrupted_batch_alone(series: list[Dataset]) -> None:
    raw = Path("data/raw")
    for name, dataset in (("pacs", series[0]), ("pacs-b", series[1])):
        closing = raw / f".{name}-20240101-101010{CLOSING}"
        path = key_of(dataset).path_in(closing)
        path.parent.mkdir(parents=True)
        path.write_bytes(as_file(dataset))
    receiver = Receiver(raw, "pacs", lambda _: None)
    assert store(receiver, "a", series[2]) == 0  # of the same study
    receiver.batch.recover("pacs")
    assert receiver.batch.keys() == {key_of(series[0]), key_of(series[2])}
    assert [path.name for path in raw.glob(f".*{CLOSING}")] == [f".pacs-b-20240101-101010{CLOSING}"]


@contextmanager
def web_server(
    status: int, headers: dict[str, str], body: bytes
) -> Iterator[tuple[str, list[str]]]:
    """Answer each request alike; yield the address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()


def test_a_redirect_is_not_followed() -> None:
    with (
        web_server(200, {}, b"[]") as (elsewhere, asked),
        web_server(308, {"Location": f"{elsewhere}/studies"}, b"") as (url, _),
        pytest.raises(InputError, match="redirects to another address"),
    ):
        WebSource(WebPeer(url, None, Credentials(), 5.0)).find(Filters())
    assert asked == []


def test_only_what_the_answer_names_counts_as_stored(series: list[Dataset]) -> None:
    first = str(series[0].SOPInstanceUID)
    named = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [first]}}]}}
    kind = {"Content-Type": "application/dicom+json"}
    with web_server(200, kind, json.dumps(named).encode()) as (url, _):
        failed = dicomweb.store(WebPeer(url, None, Credentials(), 5.0), series)
    assert set(failed) == {str(each.SOPInstanceUID) for each in series[1:]}


def test_a_full_disk_is_not_the_servers_fault(
    series: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicomweb, "retrieve", lambda *_, **__: iter(series))

    def save(data: bytes) -> InstanceKey:
        raise OSError(28, "No space left on device")

    source = WebSource(WebPeer("http://127.0.0.1:1", None, Credentials(), 5.0), save)
    problem = source.fetch([key_of(each) for each in series], whole=True)
    assert problem == "cannot write a file of the batch (No space left on device)"


@pytest.mark.parametrize(
    ("keyword", "wanted", "value", "same"),
    [
        ("StudyDescription", "Brain*", "BRAIN MR", True),
        ("StudyDescription", "Brain*", "Knee", False),
        ("StudyDescription", "Brain [1]", "Brain [1] ", True),
        ("PatientID", "a?", "ab", True),
        ("PatientID", "a", "", False),
        ("StudyDate", "20240101", "2024.01.01", True),
        ("StudyDate", "20240101", "20240102", False),
        ("StudyDate", "20240101-20240131", "20240201", False),
        ("StudyDate", "-20240131", "20230201", True),
        ("StudyDate", "20240101-", "20250201", True),
        ("StudyDate", "20240101-", "", False),
    ],
)
def test_a_study_that_does_not_match_is_left_out(
    keyword: str, wanted: str, value: str, same: bool
) -> None:
    assert matches({keyword: wanted}, {keyword: value}) == same


def test_a_pacs_that_ignores_a_filter_pulls_nothing(series: list[Dataset]) -> None:
    study = {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}
    kind = {"Content-Type": "application/dicom+json"}
    filters = Filters({"StudyDescription": "Brain*"})
    with (
        web_server(200, kind, json.dumps([study]).encode()) as (url, _),
        pytest.raises(InputError, match="does not filter by StudyDescription"),
    ):
        WebSource(WebPeer(url, None, Credentials(), 5.0)).find(filters)
    with faulty_pacs(series) as port:
        peer = DimsePeer("127.0.0.1", port, "FAULTY", "AUGLIFT", None, Credentials(), 5.0)
        with pytest.raises(InputError, match="does not filter by StudyDescription"):
            DimseSource(peer).find(filters)
        uid = Filters(studies=("1.2.3.4",))
        assert DimseSource(peer).find(uid) == []
