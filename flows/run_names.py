"""Name a run in Prefect by what it runs: batches, stages, commit, what it overrides."""

import subprocess
from collections.abc import Sequence
from typing import Any

from prefect.runtime import flow_run

from flows.overrides import collect_overrides, overridden, show
from tasks import params
from tasks.stage.errors import InputError

MAX_NAMED = 3  # batches, stages or overridden keys


def name_flow_run() -> str:
    """Name a run by its batches, its stages, the commit and what it overrides."""
    given: dict[str, Any] = dict(flow_run.parameters or {})
    try:
        values = collect_overrides(given.get("presets") or (), values=given.get("params"))
        with overridden(values):
            batches = [str(batch) for batch in params.read_key("data.batches")]
    except InputError:
        return f"wrong input, {describe_commit()}"
    words = [shorten(batches)]
    if stages := given.get("stages"):
        words.append(shorten(stages))
    words.append(describe_commit())
    if given.get("force"):
        words.append("forced")
    words += [f"preset {name}" for name in given.get("presets") or ()]
    direct = [f"{key}={show(value)}" for key, value in (given.get("params") or {}).items()]
    return ", ".join([*words, *([shorten(direct)] if direct else [])])


def name_search_run() -> str:
    """Name a search by its name and the commit."""
    given: dict[str, Any] = dict(flow_run.parameters or {})
    name = getattr(given.get("search"), "name", None) or given.get("name", "gan")
    return f"search {name}, {describe_commit()}"


def shorten(words: Sequence[str]) -> str:
    """Return the first words, and how many more there are."""
    more = len(words) - MAX_NAMED
    return " ".join(words[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def describe_commit() -> str:
    """Return the commit that is checked out, with `+changes` where tracked files differ."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        ).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD") or "no commit"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!*dvc.lock")
    return f"{commit}+changes" if changed else commit
