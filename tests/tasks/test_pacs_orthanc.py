"""A release goes to a real PACS, comes back by every way, and is refused as synthetic."""

import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.fake_run import Run, write
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.pacs_fixtures import (
    Orthanc,
    clone,
    orthanc_missing,
    pacs,
    run_orthanc,
    stored,
)
from tests.tasks.test_ingest_synthetic import codes
from tests.tasks.test_release import release

WAYS = ("c-get", "c-move", "dicomweb")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if reason := orthanc_missing():
        pytest.skip(reason)
    with run_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def orthanc(server: Orthanc) -> Orthanc:
    """An empty PACS."""
    server.clear()
    return server


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(tmp_path_factory.mktemp("released"), Run(synthetic=4, accept_share=1.0, size=32))
    release(root)
    return root / "data/release"


def way(orthanc: Orthanc, name: str) -> list[str]:
    if name == "dicomweb":
        return ["--url", orthanc.url]
    return ["--via", name, *orthanc.options(), "--listen-port", str(orthanc.move_port)]


def uids(release: Path) -> set[str]:
    return {str(pydicom.dcmread(p).SOPInstanceUID) for p in (release / "dicom").rglob("*.dcm")}


@pytest.mark.parametrize("by", ["c-store", "stow"])
def test_a_release_that_comes_back_is_refused_as_synthetic_whatever_the_way(
    by: str, orthanc: Orthanc, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone(tmp_path, monkeypatch)
    target = ["--url", orthanc.url] if by == "stow" else orthanc.options()
    code, out, err = pacs("push", "--release", released, *target)
    assert (code, err) == (0, "")
    assert orthanc.instances() == uids(released)
    assert f"{len(uids(released))} of {len(uids(released))} files sent" in out
    assert "0 of" in pacs("push", "--release", released, *target)[1]  # nothing is sent twice
    for name in WAYS if by == "stow" else ("c-get",):
        code, _, err = pacs("pull", f"back-{name}", *way(orthanc, name), "--everything")
        assert (code, err) == (0, "")
        assert stored(tmp_path / f"data/raw/back-{name}") == uids(released)
    workspace = IngestWorkspace(tmp_path)
    write_series(workspace.raw / "real", anatomy((5, 9, 10)))  # so that there is something to read
    (tmp_path / "data/raw/back-c-get").rename(workspace.raw / "back")
    workspace.ingest()
    code_of = codes(workspace)
    assert {code_of[name] for name in code_of if name.startswith("back/")} == {"synthetic"}
    assert len(code_of) == len(uids(released))


@pytest.mark.parametrize("name", WAYS)
def test_filters_choose_studies_and_a_second_pull_fetches_nothing(
    name: str, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone(tmp_path, monkeypatch)
    for number, patient in enumerate(("P1", "P2", "Q1")):
        folder = tmp_path / f"send{number}"
        write_series(folder, anatomy((3, 9, 10), number), patient=patient, seed=patient)
        send(orthanc, folder)
    options = [*way(orthanc, name), "--patient", "P*", "--modality", "MR"]
    assert pacs("pull", "ward", *options)[::2] == (0, "")
    there = stored(tmp_path / "data/raw/ward")
    assert len(there) == 6
    # The bytes of the data set are those that were sent: nothing was converted on the way.
    sent = {str(pydicom.dcmread(p).SOPInstanceUID): p for p in tmp_path.glob("send*/*.dcm")}
    for path in (tmp_path / "data/raw/ward").rglob("*.dcm"):
        assert pydicom.dcmread(path) == pydicom.dcmread(sent[path.stem])
        assert path.stat().st_mode & 0o222 == 0
    code, out, _ = pacs("pull", "ward", *options)
    assert code == 0
    assert "0 fetched, 6 were here" in out
    folder = tmp_path / "later"
    write_series(folder, anatomy((3, 9, 10), 9), patient="P3", seed="P3")
    send(orthanc, folder)
    code, _, err = pacs("pull", "ward", *options)
    assert code == 2
    assert "a batch is never changed: the PACS has 3 instances that it lacks" in err
    assert pacs("pull", "ward2", *options, "--except", "ward")[0] == 0
    assert len(stored(tmp_path / "data/raw/ward2")) == 3
    assert stored(tmp_path / "data/raw/ward") == there


def send(orthanc: Orthanc, folder: Path) -> None:
    """Put files into the PACS by its own interface."""
    from urllib.request import Request, urlopen

    for path in folder.glob("*.dcm"):
        url = f"http://127.0.0.1:{orthanc.http}/instances"
        with urlopen(Request(url, path.read_bytes(), method="POST")) as answer:
            assert json.load(answer)["Status"] == "Success"


def test_wrong_ae_titles_and_addresses_are_one_line(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone(tmp_path, monkeypatch)
    wrong = ["--called", "OTHER", "--port", str(orthanc.port), "--everything"]
    code, _, err = pacs("pull", "ward", *wrong)
    assert code == 2
    assert "called ae title not recognised" in err
    code, _, err = pacs("pull", "ward", "--url", f"{orthanc.url}/wrong", "--everything")
    assert code == 2
    assert "HTTP 404; --url must be the root" in err
    # Our own AE title is not that which the PACS knows as a destination.
    folder = tmp_path / "send"
    write_series(folder, anatomy((3, 9, 10)))
    send(orthanc, folder)
    code, _, err = pacs("pull", "ward", *way(orthanc, "c-move"), "--calling", "X", "--everything")
    assert code == 1
    assert "does not know our AE title" in err or "status 0x" in err
    assert not list((tmp_path / "data/raw").glob("[!.]*"))
