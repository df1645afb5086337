"""What the image of a worker holds: the code, and neither data nor credentials."""

import fnmatch
import subprocess

import pytest

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
