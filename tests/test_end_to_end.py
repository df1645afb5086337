"""The whole pipeline, tiny, from a fresh clone through both doors."""

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


def clone(root: Path) -> Path:
    """The tracked files as they are in the working tree, committed afresh, with tiny params."""
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


@pytest.mark.timeout(900)
def test_both_doors_end_in_the_same_lock_and_nothing_to_do(
    tmp_path: Path, prefect_api: str
) -> None:
    flow = clone(tmp_path / "flow")
    repro = Path(shutil.copytree(flow, tmp_path / "repro"))
    done = run(
        flow, "python", "-m", "flows.pipeline", "--workers", "2", PREFECT_API_URL=prefect_api
    )
    assert done.returncode in (0, 3), done.stdout[-3000:] + done.stderr[-3000:]
    rejected = done.returncode == 3

    again = run(flow, "python", "-m", "flows.pipeline")
    assert again.returncode == done.returncode
    assert re.match(r"Nothing to do: all \d+ stages are up to date\.", again.stdout)

    done = run(repro, "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert locks(repro) == locks(flow)
    assert run(repro, "dvc", "repro").stdout.endswith("Data and pipelines are up to date.\n")
    assert "Nothing to do" in run(repro, "python", "-m", "flows.pipeline").stdout

    said = run(flow, "python", "-m", "flows.cli", "summary")
    assert said.returncode == 0
    assert said.stdout.startswith("Rejected: " if rejected else "Accepted: ")
    assert f"report:  {flow / 'data/report.html'}" in said.stdout
    assert (flow / "data/release").is_dir()

    assert "data/gate/0/metrics.json" in run(repro, "dvc", "metrics", "show", "--md").stdout
    assert "train_gan@0" in run(repro, "dvc", "dag").stdout
    assert run(repro, "dvc", "plots", "show").returncode == 0
    plotted = (repro / "dvc_plots/index.html").read_text()
    for word in ('"arm": "real+synthetic"', '"facet"', "Losses of the generator"):
        assert word in plotted
    assert run(repro, "dvc", "params", "diff", "--all").returncode == 0
    assert run(repro, "git", "status", "--porcelain").stdout.split() == [
        "??", "data/raw/dvc.lock", "??", "dvc.lock"
    ]  # fmt: skip
