"""What every stage's output has in common."""

import os
from pathlib import Path

import pytest

from tasks import stage


@pytest.mark.parametrize("name", ["folder", "file.json"])
def test_an_output_is_as_readable_as_the_umask_says_whatever_wrote_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        with stage.output(Path("data") / name) as out:
            file = out / "inner/a.safetensors" if name == "folder" else out
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
    finally:
        os.umask(before)
    files = [path for path in Path("data").rglob("*") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o640]
