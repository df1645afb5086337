"""A real PACS (Orthanc) and a faulty one (pynetdicom's own SCP) on loopback, for the tests."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pydicom
import pytest
from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, StoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)
from typer.testing import CliRunner

from flows.cli import app
from tasks.commands.pacs.dimse import send_at_once
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.fake_run import Run, write
from tests.tasks.test_release import release

ROOT = Path(__file__).parents[2]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc; `move_port` is where it sends for AUGLIFT by C-MOVE."""

    port: int
    http: int
    move_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def options(self) -> list[str]:
        return ["--called", "ORTHANC", "--port", str(self.port)]

    def rest(self, path: str, method: str = "GET") -> Any:
        with urlopen(Request(f"http://127.0.0.1:{self.http}{path}", method=method)) as answer:
            return json.load(answer)

    def clear(self) -> None:
        for study in self.rest("/studies"):
            self.rest(f"/studies/{study}", "DELETE")

    def instances(self) -> set[str]:
        return {
            self.rest(f"/instances/{each}")["MainDicomTags"]["SOPInstanceUID"]
            for each in self.rest("/instances")
        }


@contextmanager
def run_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Run Orthanc with an empty store in a folder."""
    server = Orthanc(free_port(), free_port(), free_port())
    config = {
        "Name": "test", "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"), "DicomAet": "ORTHANC", "DicomPort": server.port,
        "HttpPort": server.http, "DicomCheckCalledAet": True, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowFind": True, "DicomAlwaysAllowStore": True,
        "DicomModalities": {"AUGLIFT": ["AUGLIFT", "127.0.0.1", server.move_port]},
        "Plugins": [str(PLUGIN)], "OverwriteInstances": False, "HttpsVerifyPeers": False,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(config))
    log = (folder / "log.txt").open("w")
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    process = subprocess.Popen(
        [program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 40
        while True:
            try:
                server.rest("/system")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"Orthanc did not start: {(folder / 'log.txt').read_text()[-300:]}")
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def orthanc_missing() -> str | None:
    """Why there is no Orthanc, or None."""
    if not (shutil.which("Orthanc") or Path("/usr/sbin/Orthanc").exists()):
        return "Orthanc is not installed (Debian: orthanc)"
    return None if PLUGIN.exists() else "Orthanc has no DICOMweb (Debian: orthanc-dicomweb)"


@contextmanager
def faulty_pacs(
    datasets: list[Dataset],
    *,
    on_get: Callable[[evt.Event], Iterator[Any]] | None = None,
    on_store: Callable[[evt.Event], int] | None = None,
) -> Iterator[int]:
    """Run an SCP that finds the data sets, and gets and stores as it is told; yield its port."""

    def on_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        for dataset in datasets:
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality"):
                setattr(answer, name, dataset.get(name, ""))
            yield 0xFF00, answer

    entity = AE(ae_title="FAULTY")
    entity.require_called_aet = True
    for model in (
        StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
    ):  # fmt: skip
        entity.add_supported_context(model)
    for context in AllStoragePresentationContexts if on_store else StoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), scu_role=True, scp_role=True)
    handlers: list[tuple[Any, Any]] = [
        (evt.EVT_C_FIND, on_find), (evt.EVT_CONN_OPEN, send_at_once)
    ]  # fmt: skip
    if on_get:
        handlers.append((evt.EVT_C_GET, on_get))
    if on_store:
        handlers.append((evt.EVT_C_STORE, on_store))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def clone(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder look like the root of a clone, and go there."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data/raw").mkdir(parents=True, exist_ok=True)
    patch.chdir(folder)


def pacs(*words: object) -> tuple[int, str, str]:
    """Run `auglift pacs`; return exit code, stdout and stderr."""
    result = CliRunner().invoke(app, ["pacs", *map(str, words)])
    if isinstance(result.exception, InputError):  # `main` makes one line of it
        return 2, result.stdout, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def stored(batch: Path) -> set[str]:
    return {path.stem for path in batch.rglob("*.dcm")}


def series_in_clone(folder: Path, patch: pytest.MonkeyPatch) -> list[Dataset]:
    """Three instances of a series, in a clone."""
    clone(folder, patch)
    write_series(folder / "source", anatomy((3, 9, 10)))
    return [pydicom.dcmread(path) for path in sorted((folder / "source").glob("*.dcm"))]


def small_release(folder: Path) -> Path:
    """A release of three slices."""
    root = write(folder, Run(synthetic=3, accept_share=1.0, size=16))
    release(root)
    return root / "data/release"
