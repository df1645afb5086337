"""`auglift`: what the command line hands on."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main

ROOT = Path(__file__).parents[2]


def test_judge_hands_on_its_words_and_the_judges_exit_code(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", "judge", "--real", str(tmp_path),
         "--synthetic", str(tmp_path / "missing"), "--out", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("judge: ")
    assert "missing is no folder" in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["generate", "export"])
def test_what_draws_is_a_process_of_its_own(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def record(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(words)
        return subprocess.CompletedProcess(words, 2)

    monkeypatch.setattr("flows.cli.subprocess.run", record)
    monkeypatch.setattr("sys.argv", ["auglift", command, "--count", "2", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert started == [[sys.executable, "-m", f"tasks.handout.{command}", "--count", "2", "--help"]]
