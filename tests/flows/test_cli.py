"""`auglift`: what the command line hands on."""

import subprocess
import sys
from pathlib import Path

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
