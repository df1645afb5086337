"""Listening for a scanner or a PACS: when a batch is closed, who may send, and TLS."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE

from tasks.commands.pacs import listen as listening
from tasks.commands.pacs.addresses import Tls
from tasks.commands.pacs.open_batch import keys_of
from tests.tasks.dicom_cases import MR_IMAGE
from tests.tasks.pacs_fixtures import clone, free_port, pacs, series_in_clone, small_release, stored


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    return series_in_clone(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("pushed"))


@contextmanager
def listener(folder: Path, **changes: Any) -> Iterator[tuple[int, list[str], threading.Thread]]:
    """Listen in a thread until a batch was closed; yield port, lines and thread."""
    port, lines = free_port(), []
    settings: dict[str, Any] = {
        "title": "AUGLIFT", "senders": ["SCANNER"], "folder": folder, "name": "pacs",
        "quiet_s": 0.6, "batches": 1, "timeout_s": 5, "say": lines.append, **changes,
    }  # fmt: skip
    thread = threading.Thread(
        target=listening.listen, args=(("127.0.0.1", port),), kwargs=settings, daemon=True
    )
    thread.start()
    deadline = time.monotonic() + 20
    while not lines and time.monotonic() < deadline:
        time.sleep(0.02)
    yield port, lines, thread
    thread.join(20)
    assert not thread.is_alive()


def associate(port: int, *, calling: str = "SCANNER", called: str = "AUGLIFT") -> Any:
    entity = AE(ae_title=calling)
    entity.add_requested_context(MR_IMAGE)
    entity.acse_timeout = entity.dimse_timeout = 5
    return entity.associate("127.0.0.1", port, ae_title=called)


def test_a_batch_is_closed_after_a_quiet_period_and_only_known_titles_may_send(
    series: list[Dataset],
) -> None:
    with listener(Path("data/raw")) as (port, lines, _):
        assert associate(port, calling="STRANGER").is_rejected
        assert associate(port, called="OTHER").is_rejected
        sender = associate(port)
        for dataset in series:
            assert sender.send_c_store(dataset).Status == 0
        time.sleep(0.9)  # longer than the quiet period: an open association still sends
        assert not list(Path("data/raw").glob("[!.]*"))
        assert sender.send_c_store(series[0]).Status == 0  # again: the same bytes
        other = series[0].copy()
        other.PatientComments = "changed"
        assert sender.send_c_store(other).Status == 0x0111
        sender.release()
    (batch,) = Path("data/raw").glob("[!.]*")
    assert stored(batch) == {str(each.SOPInstanceUID) for each in series}
    assert not list(batch.rglob(".*"))
    assert list(Path("data/raw").iterdir()) == [batch]
    assert "1 studies, 3 instances" in lines[-1]


def test_a_study_whose_sender_broke_off_waits_until_it_is_sent_again(
    series: list[Dataset],
) -> None:
    whole = deepcopy(series)
    for each in whole:
        each.StudyInstanceUID = each.SeriesInstanceUID = "1.2.3.4"
        each.SOPInstanceUID = each.SOPInstanceUID[:-3] + ".7"
        each.file_meta.MediaStorageSOPInstanceUID = each.SOPInstanceUID
    with listener(Path("data/inbox"), marker=".complete") as (port, lines, _):
        sender = associate(port)
        assert sender.send_c_store(series[0]).Status == 0
        sender.abort()
        sender = associate(port)
        assert sender.send_c_store(whole[0]).Status == 0
        sender.release()
    (batch,) = Path("data/inbox").glob("[!.]*")
    assert {key.study for key in keys_of(batch)} == {"1.2.3.4"}
    assert [path.name for path in batch.rglob(".*")] == [".complete"]
    assert any("broke off" in line for line in lines)
    assert "1 incomplete studies wait" in lines[-1]
    with listener(Path("data/inbox")) as (port, lines, _):  # the next run takes it over
        assert "1 instances of an earlier run" in lines[0]
        sender = associate(port)
        for dataset in series:
            assert sender.send_c_store(dataset).Status == 0
        sender.release()
    second = next(path for path in Path("data/inbox").glob("[!.]*") if path != batch)
    assert stored(second) == {str(each.SOPInstanceUID) for each in series}


def test_tls_wants_a_certificate_that_is_trusted(released: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        clone(tmp_path, patch)
        tls = Tls(certificate=certificate, key=key)
        with listener(Path("data/raw"), tls=tls, senders=[]) as (port, _, _):
            target = ["push", "--release", released, "--called", "AUGLIFT", "--host", "localhost",
                      "--port", port, "--retries", 0, "--timeout", 5]  # fmt: skip
            assert pacs(*target)[0] == 2  # in clear text
            code, _, err = pacs(*target, "--tls")  # nobody trusts that certificate
            assert code == 2
            assert "by TLS; is it running, are host, port and TLS right?" in err
            assert pacs(*target, "--tls-ca", certificate)[0] == 0
        (batch,) = Path("data/raw").glob("[!.]*")
        assert len(stored(batch)) == len(list((released / "dicom").rglob("*.dcm")))
