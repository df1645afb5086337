"""Hostile and broken files: each is a coded rejection in bounded time and memory."""

import gzip
import multiprocessing
import os
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.ingest import worker_pool
from tasks.ingest.output.batch_report import BatchReport
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import (
    anatomy,
    write_multiframe,
    write_segmentation,
    write_series,
    write_structures,
)
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import ball, one_patient, write_nifti


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path, in_workers=True)


def nifti_start(shape: tuple[int, int, int], offset: float) -> bytes:
    """A NIfTI-1 header with these claims, and nothing behind it."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, offset)
    struct.pack_into("<2h", header, 252, 1, 1)
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    return bytes(header)


def test_gigantic_and_bomb_volumes_are_rejected_quickly(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    (workspace.raw / "sub-02_FLAIR.nii").write_bytes(nifti_start((30000, 30000, 30000), 352))
    (workspace.raw / "sub-03_FLAIR.nii").write_bytes(nifti_start((400, 400, 400), 352))
    bomb = gzip.compress(nifti_start((10, 10, 10), 3e9) + bytes(50_000_000), 1)
    (workspace.raw / "sub-04_FLAIR.nii.gz").write_bytes(bomb)
    start = time.monotonic()
    assert len(workspace.ingest()) == 1
    assert time.monotonic() - start < 20
    assert workspace.codes() == ["corrupt", "too-large", "truncated"]


def test_a_gigantic_declared_image_is_rejected(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "good", anatomy((4, 8, 8)), patient="good")
    write_series(workspace.raw / "x", anatomy((4, 8, 8)), Rows=65535, Columns=65535)
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["too-large"]


def test_images_that_declare_too_many_pixels_are_rejected(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    parts = [
        (b"IHDR", struct.pack(">II", 60000, 60000) + b"\x08\0\0\0\0"),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]  # fmt: skip
    (workspace.raw / "7_p.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert len(workspace.ingest(pictures={"pattern": r"(?P<patient>\d+_p)$"})) == 1
    assert workspace.codes() == ["too-large"]


def test_a_deflated_file_is_rejected_before_it_inflates(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "good", anatomy((4, 8, 8)), patient="good")
    path = workspace.raw / "good/slice000.dcm"
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99", 1)
    (workspace.raw / "deflated.dcm").write_bytes(content)
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["codec"]


def test_a_fifo_does_not_hang_the_stage(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    os.mkfifo(workspace.raw / "pipe.dcm")
    workspace.ingest()
    assert workspace.codes() == ["unknown-format"]


def test_hostile_names_stay_inside_the_batch(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    for name in ("sub-..%2f..%2fx_FLAIR.nii.gz", "sub-$(touch x)_FLAIR.nii.gz", "a\nb.nii.gz"):
        write_nifti(workspace.raw / "tmp.nii.gz", anatomy((8, 9, 10)))
        (workspace.raw / "tmp.nii.gz").rename(workspace.raw / name)
    latin = os.fsdecode(b"caf\xe9_FLAIR.nii.gz")  # no UTF-8
    (workspace.raw / "a\nb.nii.gz").rename(workspace.raw / latin)
    manifest = workspace.ingest()
    assert manifest.image.str.fullmatch(r"sub-[0-9a-f]{12}/[\w.-]+").all()
    assert len(manifest) == 4


def square(number: int) -> int:
    if number == 3:
        os.abort()
    if number == 5:
        while True:
            time.sleep(1)
    return number * number


def test_a_task_that_kills_or_hangs_its_worker_ends_no_other_task() -> None:
    results = list(worker_pool.map_in_workers(square, range(8), seconds=1.0, memory=2**31))
    assert results == list(enumerate([0, 1, 4, None, 16, None, 36, 49]))


def test_only_a_few_tasks_start_ahead_of_their_results() -> None:
    ahead = worker_pool.TASKS_AHEAD * worker_pool.available_cores()
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(1, 4 * ahead):
            taken.append(number)
            yield number

    for done, (task, result) in enumerate(
        worker_pool.map_in_workers(abs, tasks(), seconds=20.0, memory=2**31), start=1
    ):
        assert (task, result) == (done, done)
        assert len(taken) <= done + ahead
    assert len(taken) == done


def greedy(number: int) -> int:
    return np.ones(number, np.uint8).size


def test_a_worker_may_not_take_all_memory() -> None:
    with pytest.raises(MemoryError):
        list(worker_pool.map_in_workers(greedy, [2**34], seconds=20.0, memory=2**30))


def failing(number: int) -> int:
    raise OSError(28, "No space left on device")


def test_a_full_disk_in_a_worker_ends_the_stage() -> None:
    with pytest.raises(OSError, match="No space"):
        list(worker_pool.map_in_workers(failing, [1, 2, 3], seconds=20.0, memory=2**31))


def test_an_interrupted_ingest_removes_its_output_when_its_workers_have_ended(
    workspace: IngestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that wrote on would create the removed folder again."""
    for number in range(40):
        write_nifti(workspace.raw / f"sub-{number:02d}_FLAIR.nii.gz", anatomy((48, 48, 20)))
    monkeypatch.setattr(BatchReport, "add_patient", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        workspace.ingest()
    assert caught.tb is not None  # the stage's frames live, as when it removes its output
    assert multiprocessing.active_children() == []
    assert list((workspace.root / "data/volumes").iterdir()) == []


def interrupt(*_: object) -> None:
    """Stand for Ctrl-C while the stage enters a result."""
    raise KeyboardInterrupt


def corrupt(content: bytes, rng: random.Random) -> bytes:
    """One of the ways in which files break."""
    data = bytearray(content)
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 1:
        for _ in range(rng.randrange(1, 30)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:  # near the header, where it hurts
        for _ in range(rng.randrange(1, 10)):
            data[rng.randrange(min(1500, len(data)))] = rng.randrange(256)
    elif kind == 3:
        start = rng.randrange(len(data))
        data[start : start + rng.randrange(1, 200)] = b""
    elif kind == 4:
        start = rng.randrange(len(data))
        data[start:start] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200)))
    else:
        start = rng.randrange(min(1500, len(data)))
        data[start : start + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
    return bytes(data)


def originals(folder: Path) -> list[tuple[str, bytes]]:
    """Good files of every format, small ones."""
    write_series(folder / "x", anatomy((4, 12, 12)))
    labels = ball((4, 12, 12), (2, 6, 6))
    write_segmentation(folder / "m/labels.dcm", folder / "x", labels, kind="LABELMAP")
    write_segmentation(folder / "x/seg.dcm", folder / "x", labels)
    write_nifti(folder / "n/sub-07_FLAIR.nii.gz", anatomy((8, 9, 10)))
    write_nifti(folder / "n/sub-07_mask.nii.gz", ball((8, 9, 10), (4, 4, 4)))
    write_nifti(folder / "n/sub-08_FLAIR.nii", anatomy((8, 9, 10)).astype(np.float32))
    write_multiframe(folder / "m/enhanced.dcm", anatomy((5, 8, 8)))
    write_multiframe(folder / "m/one_frame.dcm", anatomy((1, 8, 8)))
    square = np.array([[-46.0, -56, 31], [-40, -56, 31], [-40, -50, 31], [-46, -50, 31]])
    write_structures(folder / "m/contours.dcm", folder / "x", {"GTV": [square], "Brain": None})
    for ending in ("png", "tif", "jpg"):
        Image.fromarray(anatomy((12, 10, 1))[..., 0].astype(np.uint8)).save(folder / f"p.{ending}")
    with zipfile.ZipFile(folder / "n/packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "n/sub-08_FLAIR.nii", "sub-09_FLAIR.nii")
        archive.write(folder / "x/slice000.dcm", "slice000.dcm")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.name, path.read_bytes()) for path in files]


def fuzz(workspace: IngestWorkspace, cases: int, seed: int) -> None:
    rng = random.Random(seed)
    sources = originals(workspace.root / "originals")
    write_nifti(workspace.raw / "sub-good_FLAIR.nii.gz", anatomy((8, 9, 10)))
    for case in range(cases):
        name, content = rng.choice(sources)
        path = workspace.raw / f"{case // 7}/{case}_{name}"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(corrupt(content, rng))
    try:
        workspace.ingest(max_seconds=20, pictures={"pattern": r"(?P<patient>\d+_p)$"})
    except InputError as error:
        pytest.fail(str(error))
    assert workspace.accounts_for_every_file()


def test_corrupted_files_have_one_outcome_each(workspace: IngestWorkspace) -> None:
    fuzz(workspace, cases=60, seed=0)


@pytest.mark.verify
@pytest.mark.parametrize("seed", range(1, 9))
def test_corrupted_files_by_the_hundred_have_one_outcome_each(
    workspace: IngestWorkspace, seed: int
) -> None:
    fuzz(workspace, cases=250, seed=seed)
