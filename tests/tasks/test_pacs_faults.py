"""A PACS that breaks off, refuses or lies: one clear line, a list of failures, no half batch."""

import shutil
import socket
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydicom import Dataset
from pynetdicom import build_context, evt

from tasks.commands.pacs.addresses import DimsePeer, read_credentials
from tasks.commands.pacs.dimse import FIND, association_with
from tasks.commands.pacs.open_batch import InvalidInstanceError, OpenBatch
from tasks.stage.errors import InputError
from tests.tasks.pacs_fixtures import (
    clone,
    faulty_pacs,
    free_port,
    pacs,
    series_in_clone,
    small_release,
    stored,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    return series_in_clone(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("pushed"))


def options(port: int) -> list[str]:
    return ["--called", "FAULTY", "--port", str(port), "--everything", "--retries", "1",
            "--timeout", "5"]  # fmt: skip


def test_an_association_that_breaks_off_is_tried_again_and_goes_on_where_it_stopped(
    series: list[Dataset],
) -> None:
    calls: list[int] = []

    def on_get(event: evt.Event) -> Iterator[Any]:
        asked = event.identifier.get("SOPInstanceUID")
        wanted = [each for each in series if asked in (None, "", each.SOPInstanceUID)]
        calls.append(len(wanted))
        yield len(wanted)
        for number, dataset in enumerate(wanted):
            if len(calls) == 1 and number == 2:
                event.assoc.abort()
                return
            yield 0xFF00, dataset

    with faulty_pacs(series, on_get=on_get) as port:
        code, out, err = pacs("pull", "ward", *options(port))
    assert (code, err) == (0, "")
    assert calls == [3, 1]  # the third alone
    assert "3 fetched" in out
    assert len(stored(Path("data/raw/ward"))) == 3


def test_what_cannot_be_sent_is_listed_and_the_next_pull_fetches_that_alone(
    series: list[Dataset],
) -> None:
    broken = {str(series[1].SOPInstanceUID)}
    asked: list[str] = []

    def on_get(event: evt.Event) -> Iterator[Any]:
        instance_asked = event.identifier.get("SOPInstanceUID")
        asked.append(str(instance_asked or ""))
        wanted = [each for each in series if instance_asked in (None, "", each.SOPInstanceUID)]
        yield len(wanted)
        for dataset in wanted:
            if str(dataset.SOPInstanceUID) in broken:
                yield 0xC001, None
                return
            yield 0xFF00, dataset

    with faulty_pacs(series, on_get=on_get) as port:
        code, out, err = pacs("pull", "ward", *options(port))
        assert code == 1
        assert "2 fetched, 0 were here, 1 failed" in out
        assert ".private/pacs-ward.csv; the batch stays open" in err
        assert str(series[1].SOPInstanceUID) not in out + err
        listed = pd.read_csv(".private/pacs-ward.csv")
        assert str(series[1].SOPInstanceUID) in set(listed["instance"])
        assert not Path("data/raw/ward").exists()
        broken.clear()
        asked.clear()
        code, out, _ = pacs("pull", "ward", *options(port))
    assert code == 0
    assert "1 fetched, 2 were here" in out
    assert asked == [str(series[1].SOPInstanceUID)]
    assert len(stored(Path("data/raw/ward"))) == 3
    assert not Path(".private/pacs-ward.csv").exists()


def test_a_batch_may_be_closed_without_what_failed(series: list[Dataset]) -> None:
    def on_get(event: evt.Event) -> Iterator[Any]:
        yield 2
        yield 0xFF00, series[0]
        yield 0xFF00, series[1]

    with faulty_pacs(series, on_get=on_get) as port:
        code, _, err = pacs("pull", "ward", *options(port), "--accept-missing")
    assert code == 1
    assert "1 instances: the PACS did not send it" in err
    assert len(stored(Path("data/raw/ward"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pull", "ward", "--called", "X", "--everything"], "no PACS answers at 127.0.0.1:"),
        (["pull", "ward", "--url", "URL", "--everything"], "no DICOMweb service answers at"),
        (["pull", "ward", "--called", "X"], "say what to pull"),
        (["pull", "ward", "--everything"], "AE title of the PACS with --called"),
        (["pull", "../x", "--called", "X", "--everything"], "a name has letters"),
        (["pull", "ward", "--called", "A" * 17, "--everything"], "1 to 16 ASCII characters"),
        (
            ["pull", "ward", "--called", "X", "--host", "192.0.2.1", "--everything"],
            "--allow-remote",
        ),
        (
            ["pull", "ward", "--called", "X", "--host", "no.such.invalid", "--patient", "1"],
            "not known",
        ),
        (["pull", "ward", "--url", "http://me:pw@127.0.0.1/", "--everything"], "holds a user or"),
        (["pull", "ward", "--url", "ftp://127.0.0.1/", "--everything"], "is no address such as"),
        (["pull", "ward", "--called", "X", "--study", "a/b"], "is no UID"),
        (["pull", "ward", "--called", "X", "--date", "1.2.2020"], "expected 20240101"),
        (["listen"], "say who may send"),
        (["listen", "--from-any", "--host", "0.0.0.0"], "--allow-remote"),
        (["listen", "--from", "A\\B"], "1 to 16 ASCII characters"),
        (["push", "--called", "X"], "is no release"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone(tmp_path, monkeypatch)
    closed = str(free_port())
    words = [word.replace("URL", f"http://127.0.0.1:{closed}/") for word in words]
    quick = ["--retries", "0", "--timeout", "2"] if words[0] != "listen" else []
    port = ["--port", closed] if "--url" not in words else []
    code, out, err = pacs(*words, *quick, *port)
    assert code == 2
    assert message in err
    assert "\n" not in err.strip()
    assert "pw" not in out + err
    assert list((tmp_path / "data/raw").iterdir()) == []


def test_credentials_come_from_the_environment_and_are_never_shown() -> None:
    secrets = {"AUGLIFT_PACS_USER": "me", "AUGLIFT_PACS_PASSWORD": "hush"}
    assert "hush" not in repr(read_credentials(secrets))
    with pytest.raises(InputError, match="AUGLIFT_PACS_PASSWORD is not set"):
        read_credentials({"AUGLIFT_PACS_USER": "me"})


def test_uids_that_lead_out_of_the_batch_are_refused(series: list[Dataset]) -> None:
    from io import BytesIO

    batch = OpenBatch(Path("data/raw/ward"))
    for value in ("../../evil", "", "1." + "2" * 64):
        dataset = deepcopy(series[0])
        dataset.SeriesInstanceUID = value
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        with pytest.raises(InvalidInstanceError):
            batch.save(buffer.getvalue())
    with pytest.raises(InvalidInstanceError):
        batch.save(b"no DICOM")
    assert not Path("data/raw/.ward.partial").exists()


def test_what_a_pacs_refuses_is_listed_and_only_that_is_sent_again(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone(tmp_path, monkeypatch)
    taken: list[str] = []
    refused = ["syn00002"]

    def on_store(event: evt.Event) -> int:
        if event.dataset.PatientID in refused:
            return 0xA700
        if len(taken) == 1 and not calls:
            calls.append("aborted")
            event.assoc.abort()
        taken.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    calls: list[str] = []
    with faulty_pacs([], on_store=on_store) as port:
        target = ["--called", "FAULTY", "--port", port, "--timeout", "5"]
        code, _, err = pacs("push", "--release", released, *target)
        assert code == 1
        assert "dicom/sub-syn00002/FLAIR.dcm: status 0xA700 (out of resources)" in err
        assert calls == ["aborted"]
        before = len(taken)
        refused.clear()
        code, _, err = pacs("push", "--release", released, *target)
        assert (code, err) == (0, "")
        assert len(taken) - before == len(list((released / "dicom/sub-syn00002").iterdir()))
        code, _, err = pacs("push", "--release", released, "--called", "OTHER", "--port", port)
        assert code == 2
        assert "called ae title not recognised" in err


def test_only_a_whole_release_is_sent(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone(tmp_path, monkeypatch)
    target = ["--called", "X", "--port", free_port(), "--retries", 0]
    changed = tmp_path / "changed"
    shutil.copytree(released, changed)
    path = changed / "dicom/sub-syn00001/FLAIR.dcm"
    path.write_bytes(path.read_bytes() + b"\0")
    code, _, err = pacs("push", "--release", changed, *target)
    assert code == 2
    assert "was changed (its SHA-256 differs)" in err
    (changed / "refusal.json").write_text('{"reasons": ["gate: FD"]}')
    code, _, err = pacs("push", "--release", changed, *target)
    assert code == 3
    assert "is a refusal, nothing may be sent: gate: FD" in err
    assert list((tmp_path / "data/raw").iterdir()) == []


def test_no_message_waits_until_the_one_before_it_is_confirmed() -> None:
    """Nagle's algorithm would hold back each data set for the receipt of its command."""
    with faulty_pacs([]) as port:
        peer = DimsePeer(host="127.0.0.1", port=port, called="FAULTY", calling="AUGLIFT")
        with association_with(peer, [build_context(FIND)]) as association:
            connection = association.dul.socket.socket
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
