"""Find released versions in git: a version is a tag `vX.Y.Z` with an entry of GTO beside it.

GTO (git tag ops) keeps its registry in tags: `release@v1.2.0` registers a version of the artifact
`release` of `dvc.yaml`, `release@v1.2.0!` withdraws it.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.secret_values import hide_secrets
from tasks.stage.errors import InputError

ARTIFACT: Final = "release"
VERSION: Final = re.compile(r"v\d+\.\d+\.\d+")
SUMS_LINE: Final = "SHA256SUMS: "


class WithdrawnError(Exception):
    """There is no data to hand over: the release was refused, or the version recalled."""


@dataclass(frozen=True)
class ReleasedVersion:
    """A released version: `sums` is the digest of its SHA256SUMS; `recall` the reason, if any."""

    name: str
    sums: str
    recall: str | None


def git(*words: str, repo: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run git in a repository, by default that of the current folder."""
    place = ["-C", str(repo)] if repo is not None else []
    return subprocess.run(
        ["git", *place, *words],
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},  # a server that asks for a password fails
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def git_output(*words: str, repo: Path | None = None) -> str:
    """Run git and return what it printed.

    Raises:
        InputError: with git's first line, when it fails.
    """
    done = git(*words, repo=repo)
    if done.returncode:
        line = next(iter(done.stderr.strip().splitlines()), "no message")
        raise InputError(f"git {words[0]} failed: {hide_secrets(line)}")
    return done.stdout.strip()


def check_version(version: str) -> str:
    """Check that a word is a version such as v1.2.0.

    Raises:
        InputError: saying what it should be.
    """
    if VERSION.fullmatch(version) is None:
        hint = f", did you mean v{version}?" if VERSION.fullmatch(f"v{version}") else ""
        raise InputError(f"{version!r} is no version; expected one such as v1.2.0{hint}")
    return version


def registration_tag(version: str) -> str:
    """Return the tag with which GTO registers a version."""
    return f"{ARTIFACT}@{version}"


def withdrawal_tag(version: str) -> str:
    """Return the tag with which GTO withdraws a version."""
    return f"{registration_tag(version)}!"


def tags(repo: Path | None = None) -> set[str]:
    """List all tags."""
    return set(git_output("tag", "--list", repo=repo).splitlines())


def list_versions(repo: Path | None = None) -> list[ReleasedVersion]:
    """List the released versions, the oldest first."""
    there = tags(repo)
    names = [name for name in there if VERSION.fullmatch(name) and registration_tag(name) in there]
    names.sort(key=lambda name: [int(number) for number in name[1:].split(".")])
    return [read_version(name, there, repo) for name in names]


def find_version(version: str, repo: Path | None = None) -> ReleasedVersion:
    """Find one released version.

    Raises:
        InputError: listing the versions that there are.
    """
    versions = {each.name: each for each in list_versions(repo)}
    if check_version(version) not in versions:
        names = ", ".join(versions) or "none"
        raise InputError(f"there is no released version {version}; released: {names}")
    return versions[version]


def read_version(name: str, there: set[str], repo: Path | None) -> ReleasedVersion:
    """Read a version's digest and recall from the messages of its tags."""
    lines = tag_message(name, repo).splitlines()
    sums = next((line.removeprefix(SUMS_LINE) for line in lines if line.startswith(SUMS_LINE)), "")
    recall = tag_message(withdrawal_tag(name), repo) if withdrawal_tag(name) in there else None
    return ReleasedVersion(name, sums, recall)


def tag_message(tag: str, repo: Path | None = None) -> str:
    """Return the message of an annotated tag."""
    return git_output("for-each-ref", "--format=%(contents)", f"refs/tags/{tag}", repo=repo)


def has_origin() -> bool:
    """Check whether the clone has a remote `origin`."""
    return "origin" in git_output("remote").splitlines()


def update_tags() -> str | None:
    """Fetch the tags of `origin`; return a warning where that fails, None where all went well."""
    if not has_origin():
        return None
    if git("fetch", "--quiet", "--tags", "origin").returncode == 0:
        return None
    return "origin cannot be asked for tags: a recall that is not known here may be missed"
