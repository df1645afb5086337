"""A small repository whose stages take a moment each: what the flow does is tested on it.

Its `params.yaml` is the real one; its `dvc.yaml` has the real shape (a sub-pipeline, foreach,
matrix, collecting stages) and stages that print, write a file, wait or fail as they are told.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

DAG = """
stages:
  ingest:
    foreach: ${data.batches}
    do:
      cmd: exec python stage.py ingest data/volumes/${item}
      deps: [stage.py, "data/raw/${item}"]
      outs: ["data/volumes/${item}"]
  slices:
    cmd: exec python stage.py slices data/slices
    deps: [stage.py, data/volumes]
    outs: [data/slices]
  train_gan:
    foreach: ${slices.folds}
    do:
      cmd: exec python stage.py train_gan data/gan/${item}
      deps: [stage.py, data/slices]
      params: [train_gan]
      outs: ["data/gan/${item}"]
      meta: {prefect: {tags: [gpu]}}
  gate:
    foreach: ${slices.folds}
    do:
      cmd: exec python stage.py gate data/gate/${item}
      deps: [stage.py, "data/gan/${item}"]
      params: [gate]
      outs: ["data/gate/${item}"]
  downstream:
    matrix: {task: "${downstream.tasks}", arm: "${downstream.arms}"}
    cmd: exec python stage.py downstream data/downstream/${item.task}-${item.arm}
    deps: [stage.py, data/gate]
    params: [downstream.seeds]
    outs: ["data/downstream/${item.task}-${item.arm}"]
  lift:
    cmd: exec python stage.py lift data/lift.csv
    deps: [stage.py, data/downstream]
    params: [lift]
    outs: [data/lift.csv]
    meta: {prefect: {retries: 1, retry_delay_seconds: 0}}
"""

RAW = """
stages:
  phantom:
    wdir: ../..
    cmd: exec python stage.py phantom data/raw/phantom
    deps: [stage.py]
    outs: [data/raw/phantom]
"""

# How a stage behaves is told by files that are no dependency of it: told/STAGE.
STAGE = """
import json, os, pathlib, sys, time
from tasks.stage.processes import die_with_parent
die_with_parent()
name, out = sys.argv[1], pathlib.Path(sys.argv[2])
told = pathlib.Path("told", name)
words = told.read_text().split() if told.exists() else []
with open("told/log", "a") as log:
    print(name, "start", time.time(), os.getpid(), file=log)
print(f"{name} prints a line")
for number in range(20):
    print(f"\\r{number}/20", end="", file=sys.stderr)
print(file=sys.stderr)
if "leak" in words:
    print("the password is", os.environ["PACS_PASSWORD"])
if "wrong" in words:
    sys.exit(print(f"{name}: found nothing, expected something; bring it", file=sys.stderr) or 2)
if "once" in words:
    told.unlink()
    raise RuntimeError("a cosmic ray")
while "meet" in words and pathlib.Path("told/log").read_text().count(f"{name} start") < 2:
    time.sleep(0.05)
while "last" in words and told.read_text():
    time.sleep(0.05)
if "hang" in words:
    time.sleep(600)
if name == "train_gan":
    time.sleep(0.3)  # two that do not take turns would overlap
if out.suffix:
    out.write_text(name)
else:
    out.mkdir(parents=True)
    (out / "out.txt").write_text(name + str(out))
    reasons = [word for word in words if word == "reject"]
    verdict = {"verdict": "rejected" if reasons else "accepted", "reasons": reasons}
    images = {"n": 4, "accepted": 3, "memorised": 1}
    (out / "metrics.json").write_text(json.dumps({**verdict, "images": images}))
with open("told/log", "a") as log:
    print(name, "end", time.time(), os.getpid(), file=log)
"""


def make_repo(root: Path) -> Path:
    """Write the repository to `root`, as a fresh clone would be."""
    files = {"dvc.yaml": DAG, "data/raw/dvc.yaml": RAW, "stage.py": STAGE, "told/log": ""}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "data/downstream").mkdir()
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["slices"]["folds"] = [0, 1]
    tree["downstream"] |= {"tasks": ["classify"], "arms": ["real", "synthetic"]}
    write_params(root, tree)
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc" / name)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def write_params(root: Path, tree: dict[str, Any]) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def change_section(root: Path, section: str, **values: object) -> None:
    """Set some values of a section of `params.yaml`."""
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree[section] |= values
    write_params(root, tree)


def set_behaviour(root: Path, stage: str, word: str) -> None:
    """Make a stage reject, hang, leak, last until it is told otherwise, fail for good (wrong), fail

    once, or meet its sibling.
    """
    (root / "told" / stage).write_text(word)


def read_log(root: Path, stage: str) -> list[tuple[str, float, int]]:
    """When a stage began and ended, and its process."""
    rows = [line.split() for line in (root / "told/log").read_text().splitlines()]
    return [(what, float(at), int(pid)) for name, what, at, pid in rows if name == stage]


def run_module(root: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m WORDS` in the repository with this tree's modules."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=root,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def environment(**env: str) -> dict[str, str]:
    """This process's environment with this tree's modules and this interpreter first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "AUGLIFT_CORES": "4", **env}
