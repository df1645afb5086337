"""A clone whose ingest looks for `.dcm` files, drops in its inbox, and what became of them."""

import shutil
from pathlib import Path

import yaml

from flows.inbox_drops import COMPLETE
from flows.inbox_intake import Outcome, take_all
from tests.flows import dag_with_quick_stages, toy_pipeline

# Like the real stage: a batch without a scan is wrong input.
INGEST = """
import os, pathlib, sys, time
from tasks.stage.processes import die_with_parent
die_with_parent()
batch = sys.argv[1]
folder = pathlib.Path("data/raw", batch)
if not list(folder.rglob("*.dcm")) and batch != "phantom":
    sys.exit(print(f"ingest@{batch}: data/raw/{batch} holds no image", file=sys.stderr) or 2)
time.sleep(float(os.environ.get("INGEST_SECONDS", 0)))
out = pathlib.Path("data/volumes", batch)
out.mkdir(parents=True)
(out / "files.txt").write_text(str(len(list(folder.rglob("*.dcm")))))
"""


def make_repo(root: Path) -> Path:
    """A clone with one commit, in which ingest looks for `.dcm` files."""
    toy_pipeline.make_repo(root)
    tree = yaml.safe_load((root / "dvc.yaml").read_text())
    tree["stages"] = {
        "ingest": {
            "foreach": "${data.batches}",
            "do": {
                "cmd": "exec python ingest.py ${item}",
                "deps": ["ingest.py", "data/raw/${item}"],
                "outs": ["data/volumes/${item}"],
            },
        }
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump(tree))
    (root / "ingest.py").write_text(INGEST)
    shutil.copy(toy_pipeline.ROOT / "params.yaml", root)
    dag_with_quick_stages.commit(root)
    (root / "data/inbox").mkdir()
    return root


def drop(inbox: Path, name: str, content: str = "scan", *, marked: bool = True) -> Path:
    """Put a drop with one scan into the inbox."""
    folder = inbox / name
    (folder / "series").mkdir(parents=True)
    (folder / "series/1.dcm").write_text(content)
    if marked:
        (folder / COMPLETE).touch()
    return folder


def take(inbox: Path, quiet: float = 60) -> dict[str, Outcome]:
    """Take what is complete; return each outcome by its kind and detail's first word."""
    outcomes = take_all(inbox, quiet, lambda _: None)
    return {outcome.kind: outcome for outcome in outcomes}


def batches() -> list[str]:
    """The listed batches."""
    listed: list[str] = yaml.safe_load(Path("params.yaml").read_text())["data"]["batches"]
    return listed


def git(*words: str) -> str:
    """What git prints."""
    return dag_with_quick_stages.git(Path(), *words)
