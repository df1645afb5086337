"""Exchange a stage's inputs and outputs between clones, through git and the DVC remote.

The coordinator pushes what a stage reads, and sends the entries of `dvc.lock` that describe it. A
worker checks out the commit, pulls these outputs, runs the stage, and pushes the outputs with
their entry of the run cache. The coordinator fetches the run cache and lets DVC restore the stage
from it: DVC itself checks that the outputs belong to the inputs.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from flows.dvc_command import run_dvc
from flows.dvc_graph import Stage, TaskOptions, default_remote, exchange_run_cache
from flows.git_commit import git
from flows.prefect_gpu_slots import machine_id
from tasks.stage.errors import InputError
from tasks.stage.stage_io import discard

# What a run itself writes, and what people write between runs: may differ from the commit.
MAY_DIFFER = frozenset({"dvc.lock", "data/raw/dvc.lock", "data/approval.json", "data/review.json"})
DATA = Path("data")


class StageRequest(BaseModel):
    """What a worker needs to run a stage.

    `locks` maps each lock file to the entries of the stages whose outputs the stage reads; `needs`
    are their addresses, with files of `dvc add`; `inputs` the paths that the stage reads below
    `data/`, `keep` the outputs among them; `coordinator` the clone that asks.
    """

    model_config = ConfigDict(frozen=True)
    address: str
    commit: str
    options: TaskOptions
    needs: tuple[str, ...]
    locks: dict[str, dict[str, Any]]
    inputs: tuple[str, ...]
    keep: tuple[str, ...]
    overrides: dict[str, Any] = {}
    coordinator: str = ""


def check_exchange() -> str:
    """Check that this clone can hand stages to others; return the commit they run.

    Raises:
        InputError: changes that are not committed, no commit, no DVC remote.
    """
    changed = [path for path in changed_files() if path not in MAY_DIFFER]
    if changed:
        raise InputError(
            f"other machines run what is committed, but {changed[0]} is changed"
            f" ({len(changed)} files in all); commit and push, or run without --elsewhere"
        )
    if not default_remote():
        raise InputError(
            "other machines get their inputs from a DVC remote, but none is set; `dvc remote add"
            " --default NAME URL`"
        )
    return git("rev-parse", "HEAD").strip()


def changed_files() -> list[str]:
    """Return the tracked files that differ from HEAD."""
    return [path for path in git("diff", "--name-only", "-z", "HEAD").split("\0") if path]


def can_travel(stage: Stage, outputs: dict[str, tuple[str, ...]]) -> bool:
    """Check that all a stage reads is in git as committed, or an output of a stage before it.

    Args:
        stage: The stage.
        outputs: The outputs of every stage of the plan, by its address.
    """
    made = [path for need in stage.needs for path in outputs[need]]
    changed = changed_files()
    tracked = [need for need in stage.needs if need.endswith(".dvc")]  # files of `dvc add`
    if any(file in changed or not git("ls-files", "--", file) for file in tracked):
        return False
    for path in stage.reads:
        if any(covers(path, out) or covers(out, path) for out in made):
            continue
        if any(covers(path, file) for file in changed) or not git("ls-files", "--", path):
            return False
    return True


def covers(folder: str, path: str) -> bool:
    """Check whether a path is a folder or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def make_request(
    stage: Stage, outputs: dict[str, tuple[str, ...]], commit: str, overrides: dict[str, Any]
) -> StageRequest:
    """Return what a worker needs to run a stage, and push it to the DVC remote."""
    locks: dict[str, dict[str, Any]] = {}
    for need in sorted(stage.needs):
        if need.endswith(".dvc"):
            continue
        file, name = lock_of(need)
        locks.setdefault(file, {})[name] = read_lock(Path(file))["stages"][name]
    if stage.needs:
        run_dvc("push", "--quiet", *sorted(stage.needs))
    return StageRequest(
        address=stage.address,
        commit=commit,
        options=stage.options,
        needs=tuple(sorted(stage.needs)),
        locks=locks,
        inputs=tuple(path for path in stage.reads if covers(str(DATA), path)),
        keep=tuple(path for need in sorted(stage.needs) for path in outputs[need]),
        overrides=overrides,
        coordinator=name_clone(),
    )


def name_clone() -> str:
    """Return a name of this clone that no other one has, on any machine."""
    return f"{machine_id()} {Path.cwd().resolve()}"


def lock_of(address: str) -> tuple[str, str]:
    """Return the lock file that holds a stage's entry, and the entry's name."""
    file, _, name = address.rpartition(":")
    return (str(Path(file).with_suffix(".lock")) if file else "dvc.lock"), name


def read_lock(path: Path) -> dict[str, Any]:
    """Read a lock file; an empty one where it does not exist."""
    if not path.exists():
        return {"schema": "2.0", "stages": {}}
    lock: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return lock


def check_own_clone(request: StageRequest) -> None:
    """Check that the worker's clone is not the coordinator's, for which each would wait.

    Raises:
        InputError: it is.
    """
    if request.coordinator == name_clone():
        raise InputError(
            "AUGLIFT_CLONE names the clone that asks for the stage; a worker needs one of its own"
        )


def prepare_worker(request: StageRequest) -> None:
    """Bring a worker's clone to the state in which the coordinator would run the stage.

    Raises:
        InputError: the commit is not to be had, or the remote does not answer.
    """
    check_out(request.commit)
    for file, entries in request.locks.items():
        lock = read_lock(Path(file))
        lock["stages"] |= entries
        partial = Path(f"{file}.partial")
        partial.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
        partial.replace(file)
    remove_leftovers(request)
    if request.needs:
        run_dvc("pull", "--quiet", "--force", *request.needs)


def check_out(commit: str) -> None:
    """Check out a commit, from `origin` where it is not here; local changes are overwritten.

    Raises:
        InputError: neither this clone nor its origin has the commit.
    """
    try:
        git("cat-file", "-e", f"{commit}^{{commit}}")
    except InputError:
        git("fetch", "--quiet", "origin")
        try:
            git("cat-file", "-e", f"{commit}^{{commit}}")
        except InputError:
            raise InputError(
                f"the run is of the commit {commit[:12]}, which origin does not have; push it"
            ) from None
    git("checkout", "--quiet", "--force", "--detach", commit)


def remove_leftovers(request: StageRequest) -> None:
    """Remove what earlier stages left in the folders that the stage reads whole.

    DVC hashes such a folder with all that lies in it. Nothing is lost: outputs are in the cache,
    and what git tracks stays.
    """
    for folder in map(Path, request.inputs):
        if folder.is_dir() and not any(covers(out, str(folder)) for out in request.keep):
            tracked = git("ls-files", "-z", "--", str(folder)).split("\0")
            remove_others(folder, request.keep, tracked)


def remove_others(folder: Path, outputs: Collection[str], tracked: Collection[str]) -> None:
    """Remove what lies in a folder, except outputs and the files that git tracks."""
    for path in folder.iterdir():
        name = str(path)
        if any(covers(name, out) or covers(out, name) for out in outputs) or name in tracked:
            continue
        if any(covers(name, file) for file in tracked):
            remove_others(path, outputs, tracked)
        else:
            discard(path)


def push_result(address: str) -> None:
    """Push a stage's outputs, and the run cache, which says from which inputs they came.

    Raises:
        InputError: the remote does not take them.
    """
    run_dvc("push", "--quiet", address)
    exchange_run_cache("push")
