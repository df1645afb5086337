"""`auglift`: what the command line imports, and what it hands on."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli import app, main
from tests.flows import toy_pipeline
from tests.imports import ROOT

FORWARDED = {
    "scan": ("tasks.commands.scan", ["--", "-ward"]),
    "judge": ("tasks.commands.judge", ["--real", "a", "--synthetic", "b"]),
    "generate": ("tasks.commands.export.generate_cli", ["--count", "2", "--out", "c"]),
    "export": ("tasks.commands.export.export_cli", ["--out", "c", "--format", "medigan"]),
    "export-dataset": ("tasks.commands.export_dataset", ["--format", "bids", "--out", "c"]),
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processes that the command line would have started; they end with 3."""
    started: list[list[str]] = []

    def record(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(words)
        return subprocess.CompletedProcess(words, 3)

    monkeypatch.setattr("flows.cli.subprocess.run", record)
    return started


def call(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["auglift", *words])
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", FORWARDED)
def test_what_needs_torch_is_a_process_of_its_own_with_its_words_and_its_exit_code(
    command: str, started: list[list[str]]
) -> None:
    module, words = FORWARDED[command]
    assert call(command, *words) == 3
    assert started == [[sys.executable, "-m", module, *words]]


@pytest.mark.parametrize("command", FORWARDED)
def test_wrong_words_are_one_line_before_a_process_starts(
    command: str, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([command], [command, *FORWARDED[command][1][:-1]], [command, "--sead", "1"]):
        assert call(*words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "auglift" in line and "--help` lists what is allowed" in line
    assert not started


def all_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and of every group's commands."""
    for name, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from all_commands(below, (*path, name))
        else:
            yield (*path, name)


COMMANDS = [
    words for words in all_commands(typer.main.get_command(app)) if words != ("review",)
]  # its help is that of its module


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_shows_options_an_example_and_exit_codes(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], started: list[list[str]]
) -> None:
    assert call(*words, "--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(rf"Examples?: (?:\$ )?auglift {' '.join(words)}\b", printed)
    codes = printed.partition("Exit codes: ")[2]
    assert all(re.search(rf"\b{code} \w+", codes) for code in (0, 1, 2))
    assert not started


def test_an_unexpected_error_is_one_line_and_a_traceback_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a line\nand another")

    monkeypatch.setenv("AUGLIFT_DEBUG", "")
    monkeypatch.setattr("flows.summary.read_summary", fail)
    assert call("summary") == 1
    assert capsys.readouterr().err.splitlines() == [
        "auglift: unexpected ZeroDivisionError: a line and another; run it again with --debug for"
        " the traceback"
    ]
    for words in (["--debug", "summary"], ["summary", "--debug"]):
        monkeypatch.setenv("AUGLIFT_DEBUG", "")
        assert call(*words) == 1
        assert "Traceback" in capsys.readouterr().err


def test_a_shell_completes_commands_and_the_words_of_an_option() -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        environment = {
            **os.environ, "_AUGLIFT_COMPLETE": "complete_bash",
            "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli"], env=environment, cwd=ROOT, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        return done.stdout.split()

    assert complete("auglift ju") == ["judge"]
    assert complete("auglift generate --label ") == ["tumor", "none", "both"]


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
        (["summary"], set()),
    ],
)
def test_what_is_heavy_is_imported_only_by_the_command_that_needs_it(
    words: list[str], allowed: set[str], tmp_path: Path
) -> None:
    root = toy_pipeline.make_repo(tmp_path / "repo")
    done = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTS, *words],
        cwd=root, env=toy_pipeline.environment(), capture_output=True, text=True, check=True,
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
