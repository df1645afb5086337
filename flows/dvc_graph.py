"""Read the DAG of `dvc.yaml`, what changed in it, and older data from DVC; sort `dvc.lock`.

This is the only module that imports `dvc.repo`, which is not a public API of DVC.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.utils.serialize import dumps_yaml, load_yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.dvc_locks import drop_dead_entries, lock_holder, parse_busy_message, wait_for_others
from flows.waiting import wait_until
from tasks.stage.errors import InputError


class TaskOptions(BaseModel):
    """How Prefect runs a stage: its `meta: {prefect: ...}` in `dvc.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tags: frozenset[str] = frozenset()
    retries: int = Field(default=0, ge=0, le=10)
    retry_delay_seconds: float = Field(default=10, ge=0)


@dataclass(frozen=True)
class Stage:
    """A stage as `dvc repro` addresses it, such as `gate@0` or `data/raw/dvc.yaml:phantom`."""

    address: str
    needs: frozenset[str]
    changed: bool
    options: TaskOptions


@dataclass(frozen=True)
class Plan:
    """The stages of a run in the order in which `dvc repro` would run them."""

    stages: tuple[Stage, ...]

    @property
    def changed(self) -> tuple[Stage, ...]:
        """The stages to run: those that changed and all that depend on them."""
        return tuple(stage for stage in self.stages if stage.changed)


def print_to_stderr(message: str) -> None:
    """Print a progress message on stderr."""
    print(message, file=sys.stderr, flush=True)


def read_plan(say: Callable[[str], None] = print_to_stderr) -> Plan:
    """Read the root stages and their ancestors, and which of them changed.

    Stages of a sub-pipeline are part of the plan only where a root stage needs them.

    Args:
        say: Receives a message while another dvc command holds the repository.

    Raises:
        InputError: when DVC cannot read the repository, with DVC's message.
    """
    while True:
        drop_dead_entries(Path())
        try:
            return read_plan_once(say)
        except LockError as error:
            in_use = parse_busy_message(str(error))
            assert in_use is not None, error
            wait_for_others(Path(), in_use, say, threading.Event())


def read_plan_once(say: Callable[[str], None]) -> Plan:
    """Read the plan without waiting for paths that another dvc command uses.

    Raises:
        LockError: when another dvc command uses a path whose hash is needed.
    """
    stages: dict[str, Stage] = {}
    with open_locked_repo(say) as repo:
        graph = get_active_graph(repo.index.graph)
        order = plan_repro(graph, root_stages(repo))
        status = repo.status()
        for node in order:
            needs = frozenset(parent.addressing for parent in graph.successors(node))
            stages[node.addressing] = Stage(
                address=node.addressing,
                needs=needs,
                changed=node.addressing in status or any(stages[n].changed for n in needs),
                options=read_task_options(node.addressing, node.meta),
            )
    return Plan(tuple(stages.values()))


def read_task_options(address: str, meta: object) -> TaskOptions:
    """Check the Prefect part of a stage's `meta`.

    Raises:
        InputError: naming the key, its value and the allowed keys.
    """
    found = meta.get("prefect", {}) if isinstance(meta, dict) else {}
    try:
        return TaskOptions.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["meta.prefect", *map(str, first["loc"])])
        allowed = ", ".join(TaskOptions.model_fields)
        raise InputError(
            f"dvc.yaml: {address}: {key} is {first['input']!r}: {first['msg']}; allowed: {allowed}"
        ) from None


def sort_lock(say: Callable[[str], None] = print_to_stderr) -> None:
    """Put the entries of `dvc.lock` into the order in which `dvc repro` writes them.

    DVC writes the entries of stages that run in parallel in the order in which they end. Entries
    of stages that are no longer in `dvc.yaml` stay, after the others.
    """
    with open_locked_repo(say) as repo:
        order = plan_repro(get_active_graph(repo.index.graph), root_stages(repo))
        rank = {stage.name: position for position, stage in enumerate(order)}
        path = Path(repo.root_dir) / "dvc.lock"
        if not path.exists():
            return
        lock = load_yaml(path)
        entries = lock["stages"]
        names = sorted(entries, key=lambda name: rank.get(name, len(rank)))
        if names != list(entries):
            lock["stages"] = {name: entries[name] for name in names}
            partial = path.with_name(".dvc.lock.partial")
            partial.write_text(dumps_yaml(lock), encoding="utf-8")
            partial.replace(path)


def read_at_revision(paths: list[str], revision: str) -> dict[str, bytes]:
    """Read files that DVC versions as they were at a revision, from the cache or the remote.

    Raises:
        InputError: naming the file that neither of them has.
    """
    with closing(DVCFileSystem(rev=revision)) as files:
        contents = {}
        for path in paths:
            try:
                contents[path] = files.read_bytes(path)
            except (DvcException, OSError) as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"{path} of {revision} is neither in DVC's cache nor its remote: {reason}"
                ) from None
    return contents


def root_stages(repo: Repo) -> list[Any]:
    """Return the stages of the root's `dvc.yaml`, which DVC's index has read already."""
    return [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]


@contextmanager
def open_locked_repo(say: Callable[[str], None]) -> Iterator[Repo]:
    """Open and lock the repository of the current folder.

    Raises:
        InputError: when DVC cannot read the repository, with DVC's message in one line.
    """
    try:
        with Repo() as repo, ExitStack() as held:
            repo.lock._friendly = False  # DVC's own message names no holder

            def attempt() -> str | None:
                try:
                    held.enter_context(lock_repo(repo))
                except LockError:
                    holder = lock_holder(Path(repo.root_dir))
                    return f"waiting for {holder}, which holds this repository"
                return None

            wait_until(attempt, say, threading.Event())
            yield repo
    except LockError:
        raise
    except DvcException as error:
        raise InputError(" ".join(str(error).split())) from None
