"""What every stage's output has in common."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.stage.errors import INTERRUPTED, InputError
from tasks.stage.processes import PARENT
from tasks.stage.stage_io import atomic_output, file_lock
from tests.tasks.dicom_cases import anatomy
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import write_nifti

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["folder", "file.json"])
def test_an_output_is_as_readable_as_the_umask_says_whatever_wrote_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        with atomic_output(Path("data") / name) as out:
            file = out / "inner/a.safetensors" if name == "folder" else out
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
    finally:
        os.umask(before)
    files = [path for path in Path("data").rglob("*") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o640]


def test_ctrl_c_is_answered_in_one_line_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    workspace = IngestWorkspace(tmp_path)
    first = workspace.raw / "sub-00_FLAIR.nii.gz"
    write_nifti(first, anatomy((96, 96, 40)))
    for number in range(1, 60):
        shutil.copy(first, workspace.raw / f"sub-{number:02d}_FLAIR.nii.gz")
    (tmp_path / "params.yaml").write_text("ingest: {key_fingerprint: 8c721d8a}\n")
    running = subprocess.Popen(
        [sys.executable, "-m", "tasks.ingest", "b"], cwd=tmp_path, text=True,
        stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AUGLIFT_KEY": "of the test" * 3},
    )  # fmt: skip
    partial = tmp_path / "data/volumes/.b.partial"
    until = time.monotonic() + 60
    while not list(partial.rglob("*.nii.gz")):
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    _, output = running.communicate(timeout=60)
    assert (running.returncode, len(output.splitlines())) == (INTERRUPTED, 1), output
    assert output.startswith("ingest@b: interrupted")
    assert list((tmp_path / "data/volumes").iterdir()) == []


def test_ctrl_c_while_a_stage_still_starts_prints_nothing(tmp_path: Path) -> None:
    """Torch takes seconds to import, and would print its own tracebacks."""
    for delay in (0.05, 0.4):
        starting = subprocess.Popen(
            [sys.executable, "-m", "tasks.gate", "0"], cwd=tmp_path, stderr=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        while b"numpy" not in maps(starting.pid):  # tasks/__init__.py is behind it
            time.sleep(0.01)
        time.sleep(delay)
        starting.send_signal(signal.SIGINT)
        assert starting.communicate(timeout=60) == (b"", b"")
        assert starting.returncode == -signal.SIGINT


LIVES = "from tasks.stage.processes import die_with_parent; die_with_parent(); print('lives')"


def test_a_child_whose_parent_died_before_it_could_ask_ends_at_once() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    child = with_parent(dead.pid, [sys.executable, "-c", LIVES])
    assert (child.returncode, child.stdout) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("shell", [[], ["sh", "-c", '"$0" "$@"; true']])
def test_a_child_of_a_living_parent_lives_also_behind_a_shell(shell: list[str]) -> None:
    child = with_parent(os.getpid(), [*shell, sys.executable, "-c", LIVES])
    assert child.stdout == "lives\n"


def with_parent(pid: int, command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command that is told whose child it is."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), PARENT: str(pid)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_an_output_that_is_let_go_of_in_time_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from tasks.stage.stage_io import file_lock\n"
        "with file_lock(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(1)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="taken"), file_lock(lock, "taken"):
        pass
    with file_lock(lock, "taken", patience_s=60):
        assert "waiting" in capsys.readouterr().out
    holder.wait()


def maps(pid: int) -> bytes:
    """The files that a process has mapped: what it has imported."""
    return Path(f"/proc/{pid}/maps").read_bytes()
