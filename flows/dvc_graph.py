"""What DVC knows: the DAG of `dvc.yaml`, what changed in it, and the order of `dvc.lock`.

The only module that imports `dvc.repo`, which is not a public API of DVC.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """`meta: {prefect: ...}` of a stage: how Prefect runs it."""

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
        """What has to run: changed stages and everything that follows from them."""
        return tuple(stage for stage in self.stages if stage.changed)


def print_to_stderr(message: str) -> None:
    """Print a line where progress belongs."""
    print(message, file=sys.stderr, flush=True)


def read_plan(say: Callable[[str], None] = print_to_stderr) -> Plan:
    """The root stages and their ancestors: a sub-pipeline counts only where it is needed.

    Args:
        say: Is told while another dvc command holds the repository.

    Raises:
        StageError: when DVC cannot make sense of the repository, in DVC's words.
    """
    while True:
        drop_dead_entries(Path())
        try:
            return read_plan_once(say)
        except LockError as error:
            found = parse_busy_message(str(error))
            assert found is not None, error
            wait_for_others(Path(), found, say, threading.Event())


def read_plan_once(say: Callable[[str], None]) -> Plan:
    """The same, unless another dvc command uses a path whose hash is asked for.

    Raises:
        LockError: when one does.
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
    """The Prefect part of a stage's `meta`."""
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

    Stages that ran side by side were written as they ended. Entries of stages that are no
    longer in `dvc.yaml` stay, behind the others.
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


def root_stages(repo: Repo) -> list[Any]:
    """Return the stages of the root's `dvc.yaml`, which DVC's index has read already."""
    return [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]


@contextmanager
def open_locked_repo(say: Callable[[str], None]) -> Iterator[Repo]:
    """The repository of the current folder, locked; what DVC cannot do becomes one line."""
    try:
        with Repo() as repo, ExitStack() as held:
            repo.lock._friendly = False  # its own words name no holder

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
