"""A toy repository whose trainer draws curves as the real one does, and resumes as it does.

How good it gets depends on `train_gan.learning_rate` alone: 0.002 has the best figure but
collapses; above 0.05 it never ends by itself.
"""

import subprocess
from pathlib import Path

from tests.flows import toy_pipeline

DAG = """
stages:
  slices:
    cmd: exec python stage.py slices
    deps: [stage.py]
    params: [slices.seed]
    outs: [data/slices]
  train_gan:
    foreach: ${slices.folds}
    do:
      cmd: exec python stage.py ${item}
      deps: [stage.py, data/slices]
      params: [train_gan]
      outs: ["data/gan/${item}"]
"""

STAGE = """
import json, math, os, pathlib, sys, time
import yaml
from tasks.stage.processes import die_with_parent
die_with_parent()
fold = sys.argv[1]
if fold == "slices":
    pathlib.Path("data/slices").mkdir(parents=True)
    sys.exit(pathlib.Path("data/slices/out.txt").write_text("slices") * 0)
asked = yaml.safe_load(open("params.yaml"))["train_gan"]
rate, steps, every = asked["learning_rate"], asked["steps"], asked["watch_every"]
if rate == 0.013:
    sys.exit(print("train_gan: training failed twice", file=sys.stderr) or 2)
kept = pathlib.Path(".checkpoints/toy.json")
rows = json.loads(kept.read_text()) if kept.exists() else []
def tell(what):
    with open(os.environ["TOY_LOG"], "a") as log:
        print(what, rate, len(rows), os.getpid(), time.time(), file=log)
tell("start")
curves = pathlib.Path(f"dvclive/train_gan-{fold}/plots/metrics")
curves.mkdir(parents=True, exist_ok=True)
kept.parent.mkdir(exist_ok=True)
for step in range(every * (len(rows) + 1), steps + 1, every):
    time.sleep(0.1)
    ratio = 2 + 4 * abs(math.log10(rate / 0.002)) + 5 * (1 - step / steps)
    rows.append([step, ratio - 1, ratio + 1])
    for column, name in ((1, "fd_ratio_none"), (2, "fd_ratio_tumor")):
        lines = [f"{row[0]}\\t{row[column]}" for row in rows]
        (curves / f"{name}.tsv").write_text("\\n".join([f"step\\t{name}", *lines, ""]))
    kept.write_text(json.dumps(rows))
    slow = pathlib.Path(os.environ["TOY_LOG"]).with_name("slow").exists()
    while step >= steps / 2 and (rate > 0.05 or slow):
        time.sleep(0.1)
out = pathlib.Path("data/gan", fold)
out.mkdir(parents=True)
lines = ["step,fd_ratio_none,fd_ratio_tumor,event"]
lines += [f"{step},{none},{tumor},best" for step, none, tumor in rows]
(out / "history.csv").write_text("\\n".join([*lines, ""]))
reason = "slices are all alike" if rate == 0.002 else None
(out / "config.json").write_text(json.dumps({"best_step": steps, "reason": reason}))
(out / "generator.safetensors").write_bytes(b"weights")
tell("end")
"""


def make_repo(root: Path) -> Path:
    """Write the repository to `root` and commit it."""
    toy_pipeline.make_repo(root)
    (root / "dvc.yaml").write_text(DAG)
    (root / "stage.py").write_text(STAGE)
    (root / "data/raw/phantom").mkdir()
    toy_pipeline.change_section(root, "slices", folds=[0])
    toy_pipeline.change_section(root, "train_gan", steps=100, watch_every=10)
    git(root, "add", "-A")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "toy")
    return root


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout
