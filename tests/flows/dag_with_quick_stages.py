"""The real DAG with stages that take a moment: `dvc.yaml` as it is, each command replaced.

What a stage writes are the names of what it is for; `listed` is the real one.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.flows import toy_pipeline
from tests.flows.toy_pipeline import ROOT

STAGE = """
import pathlib, sys
name, items = sys.argv[1], sys.argv[3::2]
with open("told/log", "a") as log:
    print("@".join([name, "-".join(items)]) if items else name, file=log)
folders = {"ingest": "volumes", "train_gan": "gan", "generate": "synthetic"}
folders["phantom"] = "raw/phantom"
data = pathlib.Path("data")
outs = [data / folders.get(name, name) / "-".join(items) / "out.txt"]
if name == "pool":
    from tasks import params
    outs = [data / name / arm / "out.txt" for arm in params.read_key("downstream.arms")]
elif name == "lift":
    outs = [data / "lift.csv", data / "lift.json", data / "lift_metrics.json"]
elif name == "report":
    outs = [data / "report.html"]
for out in outs:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("{}" if out.suffix == ".json" else str(out))
if items:
    from tasks.stage.item_names import write_name_output
    write_name_output(name, items)
"""


def make_repo(root: Path) -> Path:
    """Write the repository to `root`, with one commit and no lock."""
    for name in ("dvc.yaml", "data/raw/dvc.yaml"):
        tree = yaml.safe_load((ROOT / name).read_text())
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shortened = {stage: quick_stage(stage, entry) for stage, entry in tree["stages"].items()}
        (root / name).write_text(yaml.safe_dump({"stages": shortened}, sort_keys=False))
    for name in (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "params.yaml",
                 "data/approval.json", "data/review.json"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "stage.py").write_text(STAGE)
    (root / "told").mkdir()
    (root / ".gitignore").open("a").write("/told/\n")
    git(root, "init", "-q")
    commit(root)
    return root


def quick_stage(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A stage of `dvc.yaml` with the data it reads, without its code."""
    cmd = entry["cmd"]
    if name != "listed":
        cmd = cmd.replace(f"python -m tasks.{name}", f"python stage.py {name}")
    deps = [dep for dep in entry["deps"] if dep.startswith(("data/", "${"))]
    return {**entry, "cmd": cmd, "deps": ["stage.py", *deps]}


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "state")


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def dvc(root: Path, *words: str) -> str:
    """What DVC says; it must end well."""
    done = toy_pipeline.run_module(root, "dvc", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def take_log(root: Path) -> list[str]:
    """The stages that ran since the last time this was asked, `listed` not among them."""
    log = root / "told/log"
    rows = log.read_text().splitlines() if log.exists() else []
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    return rows
