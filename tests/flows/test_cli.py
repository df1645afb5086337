"""`auglift`: what the command line imports, and what it hands on."""

import subprocess
import sys

import pytest

from flows.cli import main
from tests.imports import ROOT

MODULES = {
    "judge": "tasks.commands.judge",
    "generate": "tasks.commands.export.generate_cli",
    "export": "tasks.commands.export.export_cli",
    "export-dataset": "tasks.commands.export_dataset",
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


HEAVY = {"dvc", "httpx", "matplotlib", "numpy", "optuna", "pandas", "pandera", "prefect", "torch"}
LIST_IMPORTS = """
import sys
from flows.cli import main
sys.argv = ["auglift", *sys.argv[1:]]
try:
    main()
except SystemExit:
    print("imported", *{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--help"], set()),
        (["run", "--help"], set()),
        (["tune", "--help"], set()),
        (["check"], {"dvc"}),
    ],
)
def test_what_is_heavy_is_imported_only_by_the_command_that_needs_it(
    words: list[str], allowed: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTS, *words],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(done.stdout.splitlines()[-1].split())
    assert "typer" in imported
    assert imported & HEAVY <= allowed


def test_make_help_lists_every_target() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    (targets,) = (line.split()[1:] for line in lines if line.startswith(".PHONY:"))
    # Below another make, this one would say which directory it enters.
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets
