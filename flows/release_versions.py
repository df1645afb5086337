"""Tag a release as a version, and fetch a version with its checksums verified."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flows.release_git import (
    ARTIFACT,
    SUMS_LINE,
    WithdrawnError,
    check_version,
    find_version,
    git,
    git_output,
    has_origin,
    registration_tag,
    tags,
    update_tags,
)
from tasks import params
from tasks.commands.export.new_folder import write_new_folder
from tasks.release.checksums import verify_checksums
from tasks.stage.errors import InputError
from tasks.stage.stage_io import discard

RELEASE: Final = Path("data/release")


def tag_release(version: str) -> list[str]:
    """Make `data/release` a released version: push its data, then tag; return what was done.

    Everything is checked before anything is done, and the tags come last: a failure leaves no tag.

    Raises:
        InputError: a tag that exists, a dirty tree, no remote, a release that is not current.
        WithdrawnError: the release was refused.
    """
    check_version(version)
    git_output("rev-parse", "HEAD")
    check_new(version)
    summary = read_summary(RELEASE)
    if summary["version"] != version[1:]:
        raise InputError(
            f"data/release says that it is version {summary['version']}, not {version}: set"
            f" release.version to {version[1:]!r} in params.yaml, run `dvc repro`, commit, and tag"
            " again"
        )
    check_clean()
    sums = verify_checksums(RELEASE)
    remote = check_remote()
    dvc("push", "--quiet", str(RELEASE), *record_paths())
    make_tags(version, summary, sums)
    registration = registration_tag(version)
    branch = git_output("rev-parse", "--abbrev-ref", "HEAD")
    warning = "warning: holds patients' slices; only people of your institution may have access"
    return [
        *([warning] if summary.get("real_slices") else []),
        f"{version}: {summary['slices']} synthetic slices"
        + (f" and {summary['real_slices']} real ones" if summary.get("real_slices") else ""),
        f"data pushed to the DVC remote {remote}; tags {version} and {registration} made",
        f"next: git push origin {branch} {version} {registration}",
    ]


def record_paths() -> list[str]:
    """List what `auglift release diff` and `affected` read of a version; no images of patients."""
    folds = params.read_key("slices.folds")
    return [
        "data/slices/slices.parquet",
        "data/lift.json",
        *(f"data/gate/{fold}/metrics.json" for fold in folds),
    ]


def check_new(version: str) -> None:
    """Check that no tag of a version exists here or at `origin`.

    Raises:
        InputError: naming the tag; a released version is never rewritten.
    """
    places = {"here": tags()}
    if has_origin():
        remote = git("ls-remote", "--tags", "origin").stdout.splitlines()
        places["at origin"] = {line.rpartition("refs/tags/")[2] for line in remote}
    for where, there in places.items():
        for tag in (version, registration_tag(version)):
            if tag in there:
                raise InputError(
                    f"the tag {tag} exists already {where}: a released version is never rewritten;"
                    " raise release.version and tag that"
                )


def read_summary(folder: Path) -> dict[str, Any]:
    """Read `release.json`.

    Raises:
        InputError: there is no release.
        WithdrawnError: it is a refusal.
    """
    refusal = folder / "refusal.json"
    if refusal.is_file():
        reasons = "; ".join(json.loads(refusal.read_text())["reasons"])
        raise WithdrawnError(f"{folder} was refused, so it cannot become a version: {reasons}")
    if not (folder / "release.json").is_file():
        raise InputError(f"{folder} holds no release; run `dvc repro` or `dvc pull {folder}` first")
    summary: dict[str, Any] = json.loads((folder / "release.json").read_text())
    return summary


def check_clean() -> None:
    """Check that the commit describes the data: nothing uncommitted, no stage to run.

    Raises:
        InputError: naming the first file or stage.
    """
    changed = git_output("status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputError(
            f"{changed[0].split(maxsplit=1)[1]} is not committed{more}: a version must be what a"
            " commit describes; commit, then tag again"
        )
    from flows.dvc_graph import read_plan

    stages = [stage.address for stage in read_plan().changed]
    if stages:
        raise InputError(
            f"data/release is not what this commit makes: {', '.join(stages)} would run; run `dvc"
            " repro`, commit dvc.lock, then tag again"
        )


def check_remote() -> str:
    """Return the name of DVC's default remote.

    Raises:
        InputError: saying how to add one.
    """
    from flows.dvc_graph import default_remote

    name = default_remote()
    if not name:
        raise InputError(
            "there is no DVC remote to push the data to; add one with `dvc remote add --default"
            " NAME FOLDER_OR_URL` and commit .dvc/config"
        )
    return name


def make_tags(version: str, summary: dict[str, Any], sums: str) -> None:
    """Make the tag and GTO's entry, both or none.

    Raises:
        InputError: with GTO's message.
    """
    import gto.api
    from gto.exceptions import GTOException

    title = f"auglift release {version}"
    body = f"Candidate: {summary['digest']}\n{SUMS_LINE}{sums}"
    git_output("tag", "--annotate", version, "-m", title, "-m", body)
    try:
        gto.api.register(repo=".", name=ARTIFACT, ref="HEAD", version=version, message=title)
    except (GTOException, OSError) as error:
        git_output("tag", "--delete", version)
        reason = " ".join(str(error).split())
        raise InputError(f"GTO cannot register {version}: {reason}; no tag was made") from None


def fetch_release(version: str, out: Path, repo: str | None) -> list[str]:
    """Bring a version into a new folder and verify its checksums; return what was done.

    Args:
        version: such as v1.2.0.
        out: a new or empty folder; it is whole or not there.
        repo: another clone or a git URL; None: this clone.

    Raises:
        InputError: no such version, or its data are missing or changed.
        WithdrawnError: the version was recalled.
    """
    check_version(version)
    lines = []
    with clone_of_tags(repo) as tagged:
        if tagged is None and (warning := update_tags()):
            lines.append(f"warning: {warning}")
        found = find_version(version, tagged)
    if found.recall is not None:
        raise WithdrawnError(f"{version} was recalled: {one_line(found.recall)}")
    with write_new_folder(out) as folder:
        discard(folder)  # DVC makes it
        dvc("get", "--quiet", repo or ".", str(RELEASE), "--rev", version, "--out", str(folder))
        sums = verify_checksums(folder)
        if found.sums and sums != found.sums:
            raise InputError(
                f"the SHA256SUMS of {version} are not those of its tag: the data were changed after"
                " the release; ask its makers"
            )
        summary = read_summary(folder)
    lines.append(
        f"{out}: {version}, {summary['slices']} synthetic slices, every checksum verified; read"
        f" {out / 'DATACARD.md'} first"
    )
    return lines


@contextmanager
def clone_of_tags(repo: str | None) -> Iterator[Path | None]:
    """Yield a bare clone of another repository, to read its tags; None for this clone."""
    if repo is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "tags.git"
        git_output("clone", "--quiet", "--bare", repo, str(place))
        yield place


def dvc(*words: str) -> None:
    """Run DVC.

    Raises:
        InputError: with DVC's error line, when it fails.
    """
    done = run_dvc(*words)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line] or lines or ["no message"]
        raise InputError(f"dvc {words[0]} failed: {one_line(errors[0].removeprefix('ERROR: '))}")


def run_dvc(*words: str) -> subprocess.CompletedProcess[str]:
    """Run DVC in a process of its own."""
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def one_line(text: str) -> str:
    """Join a text's lines."""
    return " ".join(text.split())
