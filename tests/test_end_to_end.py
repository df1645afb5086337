"""The whole pipeline, tiny, from a fresh clone, by the flow and by `dvc repro`.

Its thirty stages take three minutes of processor time, most of it to start: `make pipeline` and CI
run it, `make test` does not.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.verify

ROOT = Path(__file__).parents[1]
TINY: dict[str, dict[str, Any]] = {
    "phantom": {"patients": 24},
    "slices": {"size": 32, "spacing_mm": 6.0},
    "train_gan": {"steps": 60, "threads": 1, "width": 8},
    "generate": {"count": 40, "threads": 1},
    "gate": {"threads": 1},
    "pool": {"min_images": 2},
    "downstream": {"arms": ["real", "real+synthetic"], "seeds": [0], "reruns": 0},
    "lift": {"draws": 100},
}
TINY_TRAINING = {"steps": 8, "batch": 8, "evaluations": 1}

Call = Callable[..., "subprocess.CompletedProcess[str]"]


def clone(root: Path, *, tiny: bool = True) -> Path:
    """The tracked files as they are in the working tree, committed afresh, with tiny params.

    Without `tiny`, with those of the demo.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    for lock in root.rglob("dvc.lock"):
        lock.unlink()
    if tiny:
        tree = yaml.safe_load((root / "params.yaml").read_text())
        for section, values in TINY.items():
            tree[section] |= values
        for task in ("classify", "segment"):
            tree["downstream"][task] |= TINY_TRAINING
        (root / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    run(root, "git", "init", "-q")
    run(root, "git", "add", "-A")
    run(root, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "tiny")
    return root


def run(root: Path, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        words,
        cwd=root,
        env={**inherited, "PATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def locks(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in ("dvc.lock", "data/raw/dvc.lock")}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> tuple[Path, bool]:
    """A clone in which the flow ran all stages, and whether the gate rejected the slices."""
    root = clone(tmp_path_factory.mktemp("end") / "flow")
    done = run(
        root, "python", "-m", "flows.pipeline", "--workers", "2", PREFECT_API_URL=prefect_api
    )
    assert done.returncode in (0, 3), done.stdout[-3000:] + done.stderr[-3000:]
    return root, done.returncode == 3


@pytest.mark.timeout(900)
def test_a_fresh_clone_ends_in_a_release_and_nothing_to_do(flow: tuple[Path, bool]) -> None:
    root, rejected = flow
    shown = run(root, "python", "-m", "flows.cli", "summary")
    assert shown.returncode == 0
    assert shown.stdout.startswith("Rejected: " if rejected else "Accepted: ")
    assert f"report:  {root / 'data/report.html'}" in shown.stdout
    assert (root / "data/release").is_dir()

    again = run(root, "python", "-m", "flows.pipeline")
    assert again.returncode == (3 if rejected else 0)
    assert re.match(r"Nothing to do: all \d+ stages are up to date\.", again.stdout)
    before = locks(root)
    assert run(root, "dvc", "repro").stdout.endswith("Data and pipelines are up to date.\n")
    assert locks(root) == before


def test_dvc_shows_metrics_stages_and_plots_of_a_run(flow: tuple[Path, bool]) -> None:
    root, _ = flow
    assert "data/gate/0/metrics.json" in run(root, "dvc", "metrics", "show", "--md").stdout
    assert "train_gan@0" in run(root, "dvc", "dag").stdout
    assert run(root, "dvc", "plots", "show").returncode == 0
    plotted = (root / "dvc_plots/index.html").read_text()
    for word in ('"arm": "real+synthetic"', '"facet"', "Losses of the generator"):
        assert word in plotted
    assert run(root, "dvc", "params", "diff", "--all").returncode == 0
    assert run(root, "git", "status", "--porcelain").stdout.split() == [
        "??", "data/raw/dvc.lock", "??", "dvc.lock"
    ]  # fmt: skip


@pytest.mark.timeout(900)
def test_flow_and_dvc_repro_end_in_the_same_lock_and_nothing_to_do(
    flow: tuple[Path, bool], tmp_path: Path
) -> None:
    """The toy repository of `tests/flows/test_pipeline.py` says the same in small."""
    root = clone(tmp_path / "repro")
    done = run(root, "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert locks(root) == locks(flow[0])
    assert run(root, "dvc", "repro").stdout.endswith("Data and pipelines are up to date.\n")
    assert "Nothing to do" in run(root, "python", "-m", "flows.pipeline").stdout
