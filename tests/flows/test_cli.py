"""`auglift`: what the command line hands on."""

import subprocess
import sys

import pytest

from flows.cli import main

MODULES = {
    "judge": "tasks.commands.judge",
    "generate": "tasks.commands.export.generate_cli",
    "export": "tasks.commands.export.export_cli",
}


@pytest.mark.parametrize("command", MODULES)
def test_what_needs_torch_is_a_process_of_its_own_with_its_words_and_its_exit_code(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def record(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(words)
        return subprocess.CompletedProcess(words, 2)

    monkeypatch.setattr("flows.cli.subprocess.run", record)
    monkeypatch.setattr("sys.argv", ["auglift", command, "--count", "2", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert started == [[sys.executable, "-m", MODULES[command], "--count", "2", "--help"]]
