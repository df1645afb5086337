"""What the image of a worker holds: the code, and neither data nor credentials.

The steps of the `Dockerfile` are run on the context that Docker would get, in a folder instead of a
container and without what they install.
"""

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement

from tests.imports import ROOT


def is_left_out(path: str) -> bool:
    """Match a path as Docker does: a pattern covers what lies below, the last that matches wins."""
    parents = path.split("/")
    paths = ["/".join(parents[: end + 1]) for end in range(len(parents))]
    left_out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").replace("**/", "*")
            if any(fnmatch.fnmatchcase(one, pattern) for one in paths):
                left_out = not line.startswith("!")
    return left_out


@pytest.mark.parametrize(
    "path",
    [
        *("data/implant/0/i.npz", "data/report.html", "data/listed/a", "data/names/a"),
        *("data/lift.csv", "data/raw/ward/a.dcm", "data/raw/.ward.partial/a", "data/inbox/a"),
        *(".git/config", ".private/key", ".dvc/config.local", ".dvc/cache/files/a", ".env"),
    ],
)
def test_data_and_credentials_stay_out_of_the_image(path: str) -> None:
    assert is_left_out(path)


def test_what_git_tracks_is_in_the_image() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [path for path in files.stdout.splitlines() if is_left_out(path)] == []


def test_the_editable_install_finds_all_packages_before_the_code_is_copied() -> None:
    install = (ROOT / "Dockerfile").read_text().split("COPY . .")[0]
    packages = [
        path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"
    ]
    assert [name for name in packages if f"{name}/__init__.py" not in install] == []


class Step(NamedTuple):
    """A step of the `Dockerfile`: its word, and what follows in one line."""

    word: str
    rest: str


def steps() -> list[Step]:
    """The steps of the `Dockerfile`."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [Step(*line.split(maxsplit=1)) for line in whole.splitlines()]


# Stands for apt-get and pip: notes how it was called, and with which packages there.
NOTES = """#!/bin/sh
echo "$(basename "$0") $*; $(ls */__init__.py 2>/dev/null | tr '\\n' ' ')" >> "$NOTES"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The clone that the steps make of Docker's context, and what they would install."""
    context = pytest.importorskip("docker.utils.build").exclude_paths
    if not (ROOT / ".git").is_dir():
        pytest.skip("a worktree has no .git folder to copy")
    folder = tmp_path_factory.mktemp("image")
    clone, programs = folder / "clone", folder / "bin"
    programs.mkdir()
    clone.mkdir()
    for name in ("apt-get", "pip", "rm"):
        (programs / name).write_text(NOTES)
        (programs / name).chmod(0o755)
    notes = folder / "notes"
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "NOTES": str(notes)}
    arguments = {"ORIGIN": "https://example.org/auglift.git"}
    files = context(str(ROOT), (ROOT / ".dockerignore").read_text().splitlines())
    for word, rest in steps():
        if word == "COPY":
            *sources, target = rest.split()
            assert target == "./" or (sources, target) == (["."], ".")
            assert sources == ["."] or set(sources) <= files, "Docker's context lacks it"
            for path in sorted(files) if sources == ["."] else sources:
                if (ROOT / path).is_file():
                    (clone / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / path, clone / path)
        elif word == "RUN":
            command = rest.replace("/clone", str(clone))
            subprocess.run(["sh", "-ec", command], cwd=clone, env={**env, **arguments}, check=True)
    return clone, notes.read_text().splitlines()


def test_the_image_holds_the_clone_as_git_knows_it(built: tuple[Path, list[str]]) -> None:
    clone, _ = built

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=clone, capture_output=True, text=True, check=True
        )
        return done.stdout

    here = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert git("rev-parse", "HEAD") == here.stdout
    assert git("ls-files", "--deleted") == ""
    assert git("config", "--get", "remote.origin.url") == "https://example.org/auglift.git\n"
    assert not (clone / ".venv").exists()


def test_the_image_installs_what_constraints_pin_as_make_install_does(
    built: tuple[Path, list[str]],
) -> None:
    _, notes = built
    (install,) = [line for line in notes if line.startswith("pip ")]
    words, _, packages = install.partition("; ")
    assert "-c constraints.txt -e ." in words
    assert "-c constraints.txt -e" in (ROOT / "Makefile").read_text()
    tracked = subprocess.run(
        ["git", "ls-files", "*/__init__.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    top = {path for path in tracked.stdout.split() if path.count("/") == 1}
    assert set(packages.split()) == top - {"tests/__init__.py"}
    pinned = {
        Requirement(line).name.lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extra = set(words.partition("-e . ")[2].split())
    assert extra and extra <= pinned  # the DVC remote's


def test_the_image_starts_a_worker_of_the_pool_of_stages() -> None:
    tree = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    pools = {one["name"]: one["work_pool"]["name"] for one in tree["deployments"]}
    (command,) = [yaml.safe_load(rest) for word, rest in steps() if word == "CMD"]
    assert command[:5] == ["prefect", "worker", "start", "--pool", pools["stage"]]
    (image,) = [rest for word, rest in steps() if word == "FROM"]
    assert re.fullmatch(r"python:3\.1[1-9]-slim", image)
    (settings,) = [rest for word, rest in steps() if word == "ENV"]
    assert "AUGLIFT_CLONE=/clone" in settings
