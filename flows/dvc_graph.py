"""Read the DAG of `dvc.yaml`, what changed in it, and older data from DVC; sort `dvc.lock`.

This is the only module that imports `dvc.repo`, which is not a public API of DVC.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.utils.serialize import dumps_yaml, load_yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows import dvc_params
from flows.dvc_locks import drop_dead_entries, lock_holder, parse_busy_message, wait_for_others
from flows.secret_values import hide_secrets
from flows.waiting import wait_until
from tasks.params import SECTIONS, did_you_mean
from tasks.stage.errors import InputError

dvc_params.override_params()
MAX_REASONS = 4
CORES = rf"^(all|({'|'.join(SECTIONS)})\.[\w.]+)$"


class TaskOptions(BaseModel):
    """How Prefect runs a stage: its `meta: {prefect: ...}` in `dvc.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tags: frozenset[str] = frozenset()
    retries: int = Field(default=0, ge=0, le=10)
    retry_delay_seconds: float = Field(default=10, ge=0)
    timeout_seconds: float | None = Field(default=None, gt=0)  # of one attempt, without waits
    # What it keeps busy: a number, a key of params.yaml, or `all`.
    cores: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=CORES)] = 1


@dataclass(frozen=True)
class Stage:
    """A stage as `dvc repro` addresses it, such as `gate@0` or `data/raw/dvc.yaml:phantom`.

    `why` says what changed in it; it is empty where only a stage before it changed. `reads` and
    `writes` are the paths of its dependencies and outputs, relative to the repository.
    """

    address: str
    needs: frozenset[str]
    changed: bool
    options: TaskOptions
    forced: bool = False
    why: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The stages of a run in the order in which `dvc repro` would run them."""

    stages: tuple[Stage, ...]

    @property
    def changed(self) -> tuple[Stage, ...]:
        """The stages to run: those that changed and all that depend on them."""
        return tuple(stage for stage in self.stages if stage.changed)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of all its stages."""
        return tuple(stage.address for stage in self.stages)

    def list_changed(self) -> str:
        """Name the stages to run; of several items of a stage their number: `downstream (12)`."""
        items: dict[str, list[str]] = {}
        for stage in self.changed:
            items.setdefault(stage.address.partition("@")[0], []).append(stage.address)
        names = [
            addresses[0] if len(addresses) == 1 else f"{stage} ({len(addresses)})"
            for stage, addresses in items.items()
        ]
        return ", ".join(names) or "none"

    @property
    def unchanged(self) -> tuple[Stage, ...]:
        """The stages that are up to date."""
        return tuple(stage for stage in self.stages if not stage.changed)


def print_to_stderr(message: str) -> None:
    """Print a progress message on stderr."""
    print(message, file=sys.stderr, flush=True)


def read_plan(
    say: Callable[[str], None] = print_to_stderr,
    names: Sequence[str] = (),
    *,
    force: bool = False,
) -> Plan:
    """Read the stages to bring up to date, with all that they need, and which of them changed.

    Stages of a sub-pipeline are part of the plan only where another stage needs them.

    Args:
        say: Receives a message while another dvc command holds the repository.
        names: Stages such as `gate` or `gate@0`; none stands for all of the root's `dvc.yaml`.
        force: Run the named stages even where nothing changed.

    Raises:
        InputError: when DVC cannot read the repository, with DVC's message; when there is no
            stage of a name.
    """
    while True:
        drop_dead_entries(Path())
        try:
            return read_plan_once(say, names, force=force)
        except LockError as error:
            in_use = parse_busy_message(str(error))
            assert in_use is not None, error
            wait_for_others(Path(), in_use, say, threading.Event())


def read_plan_once(say: Callable[[str], None], names: Sequence[str] = (), *, force: bool) -> Plan:
    """Read the plan without waiting for paths that another dvc command uses.

    Raises:
        LockError: when another dvc command uses a path whose hash is needed.
    """
    stages: dict[str, Stage] = {}
    with open_locked_repo(say) as repo:
        graph = get_active_graph(repo.index.graph)
        chosen = choose_stages(list(graph), names) if names else root_stages(repo)
        forced = {node.addressing for node in chosen} if force else set()
        order = plan_repro(graph, chosen)
        with dvc_params.hashes_once():
            status = repo.status()
        for node in order:
            address = node.addressing
            needs = frozenset(parent.addressing for parent in graph.successors(node))
            stages[address] = Stage(
                address=address,
                needs=needs,
                changed=address in status
                or address in forced
                or any(stages[n].changed for n in needs),
                options=read_task_options(address, node.meta),
                forced=address in forced,
                why=explain_status(status.get(address, [])),
                reads=relative_paths(repo, node.deps),
                writes=relative_paths(repo, node.outs),
            )
    return Plan(tuple(stages.values()))


def relative_paths(repo: Repo, items: list[Any]) -> tuple[str, ...]:
    """Return the paths of dependencies or outputs, relative to the repository."""
    return tuple(Path(item.fs_path).relative_to(repo.root_dir).as_posix() for item in items)


def default_remote() -> str:
    """Return the name of the repository's default DVC remote; "" where there is none."""
    with Repo() as repo:
        return str(repo.config["core"].get("remote") or "")


def exchange_run_cache(direction: Literal["push", "pull"]) -> None:
    """Copy the entries of the run cache that the default remote, or this clone, does not have.

    `dvc push --run-cache` copies all entries every time.

    Raises:
        InputError: the remote does not answer.
    """
    try:
        with Repo() as repo:
            local = repo.cache.legacy
            remote = repo.cloud.get_remote_odb(None, "run cache", hash_name="md5-dos2unix")
            ends = (local, remote) if direction == "push" else (remote, local)
            repo.stage_cache.transfer(*ends, force=False)
    except (DvcException, OSError) as error:
        raise InputError(
            f"the DVC remote does not answer: {hide_secrets(' '.join(str(error).split()))}"
        ) from None


def choose_stages(nodes: list[Any], names: Sequence[str]) -> list[Any]:
    """Return the stages of some names: `gate`, `gate@0`, `phantom` of a sub-pipeline.

    Raises:
        InputError: for a name that no stage has.
    """
    chosen = []
    groups = {node.addressing.rpartition(":")[2].partition("@")[0] for node in nodes}
    for name in names:
        found = [
            node
            for node in nodes
            if name in (node.addressing, node.addressing.rpartition(":")[2])
            or name == node.addressing.rpartition(":")[2].partition("@")[0]
        ]
        if not found:
            group = f"{name.partition('@')[0]}@"
            items = [node.addressing for node in nodes if node.addressing.startswith(group)]
            near = did_you_mean(name, (*groups, *items))
            listed = items or sorted(groups)
            raise InputError(f"there is no stage {name!r}{near}; stages: {', '.join(listed)}")
        chosen += found
    return chosen


def explain_status(changes: list[Any]) -> str:
    """Explain what DVC says changed in a stage, in one line: params, inputs, outputs, command."""
    reasons: list[str] = []
    for change in changes:
        if isinstance(change, str):  # such as "changed command"
            reasons.append(change)
            continue
        for kind, paths in change.items():
            for path, how in paths.items():
                if isinstance(how, dict):  # keys of params.yaml
                    reasons += [f"{key} of {path} {word}" for key, word in how.items()]
                else:
                    reasons.append(f"{'output ' if kind == 'changed outs' else ''}{path} {how}")
    more = len(reasons) - MAX_REASONS
    return ", ".join(reasons[:MAX_REASONS]) + (f" and {more} more" if more > 0 else "")


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
        # What `dvc add` tracks is a stage of the graph too, but has no name and no entry.
        rank = {getattr(stage, "name", ""): position for position, stage in enumerate(order)}
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
    from dvc.api import DVCFileSystem  # imports all of DVC's experiments

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
