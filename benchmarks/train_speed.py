"""Time a training step of `train_gan` beside MONAI's `GanTrainer` and the DCGAN tutorial's loop.

Run from the repository's root: `python benchmarks/train_speed.py [--sizes 64 128] [--threads 2]`.
All three train the same networks (`models.dcgan`, equal first weights) on the same random slices
with the same batch and Adam. Three workloads:

dcgan       the paper's networks and its cross-entropy, nothing else: what the tutorial describes
small_data  the default's networks and logistic loss, nothing else
default     the same with DiffAugment and lazy R1 in all three; auglift's EMA is its own extra

The contenders take turns, round by round, and a ratio is that of one round, so that other work on
the machine slows neighbours alike. Times are the process's CPU seconds where there is no GPU, as
others may use the cores too; wall time stands beside them. FLOPs are counted
(`torch.utils.flop_counter`) and compared with a matrix product timed in the same run, as are the
bytes that the operators of a step read and write with a plain copy.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.roofline import Cost, MachinePeak, describe_machine, time_steps  # noqa: E402
from benchmarks.train_peers import PEERS, MonaiTrainer, TutorialLoop  # noqa: E402
from tasks.common import torch_setup  # noqa: E402
from tasks.params.train_gan import TrainGan  # noqa: E402
from tasks.train_gan.resume import build_architecture  # noqa: E402
from tasks.train_gan.trainer import Trainer  # noqa: E402
from tasks.train_gan.training_data import LabelledSlices, TrainingData  # noqa: E402
from tests.tasks.train_gan_fixtures import write_workspace  # noqa: E402

OFF = {"brightness": 0, "contrast": 0, "translation": 0, "cutout": 0}
WORKLOADS: dict[str, dict[str, Any]] = {
    "dcgan": {"recipe": "paper", "l1": 0, "feature_matching": 0},
    "small_data": {"r1_gamma": 0, "diffaugment": OFF},
    "default": {},
}
FIRST_STEP = """
import os, time
from tasks.train_gan import __main__ as stage
from tasks.train_gan.trainer import Trainer
loaded = time.process_time()
take = Trainer.step
def once(*words):
    take(*words)
    print(time.time(), time.process_time(), loaded, flush=True)
    os._exit(0)
Trainer.step = once
stage.main("0")
"""
REPLAY_AFTER = 40  # steps after which a GPU's steps of both kinds are replayed
Step = Callable[[], None]


def main() -> None:
    """Print the machine, its peaks, and a table for each size and workload."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a contender in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--skip-startup", action="store_true")
    options = parser.parse_args()
    device = torch_setup.setup_torch(options.threads)
    print(f"torch {torch.__version__}, {describe_machine(device)}, {options.threads} threads")
    if device.type == "cpu":
        print("no GPU: the figures below are the processor's")
    if not options.skip_startup:
        print(time_startup(options.threads))
    ceilings = MachinePeak.measure(device)
    print(ceilings)
    for size in options.sizes:
        for workload in options.workloads:
            print_table(workload, size, options, ceilings, device)


def print_table(
    workload: str,
    size: int,
    options: argparse.Namespace,
    ceilings: "MachinePeak",
    device: torch.device,
) -> None:
    """Time the contenders in turns and print a line for each."""
    # A lazy penalty comes every eighth step: whole periods only.
    period = 8 if workload == "default" else 1
    # What is replayed passes the counter by: plain steps are counted.
    plain = contenders(workload, size, options, device, replay=False)
    costs = {name: Cost.of(step, period) for name, step in plain.items()}
    steps = contenders(workload, size, options, device, replay=True)
    if device.type == "cuda":
        for step in steps.values():
            time_steps(step, REPLAY_AFTER, device)
    counts = {
        name: period * max(1, round(options.seconds / period / time_steps(step, period, device)[0]))
        for name, step in steps.items()
    }
    rounds = [
        {name: time_steps(step, counts[name], device) for name, step in steps.items()}
        for _ in range(options.rounds)
    ]
    print(f"\n{workload}, {size} px, width {options.width}, batch {options.batch}, {device.type}:")
    print(
        "| | images/s | ms a step | GFLOP a step | of the product ceiling | GB a step"
        " | of the copy ceiling | times the better peer |\n|---|---|---|---|---|---|---|---|"
    )
    for name in steps:
        own, wall = (float(np.median([each[name][i] for each in rounds])) for i in (0, 1))
        ratios = [min(each[peer][0] for peer in PEERS) / each[name][0] for each in rounds]
        cost = costs[name]
        ceiling = ceilings.bf16 if name.endswith("bf16") else ceilings.fp32
        print(
            f"| {name} | {options.batch / wall:.0f} | {1e3 * own:.1f} | {cost.flops / 1e9:.2f}"
            f" | {cost.flops / own / ceiling:.0%} | {cost.bytes / 1e9:.3f}"
            f" | {cost.bytes / own / ceilings.copy:.0%}"
            f" | {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    auglifts = [name for name in steps if name not in PEERS]
    best = min(auglifts, key=lambda name: float(np.median([each[name][0] for each in rounds])))
    own = float(np.median([each[best][0] for each in rounds]))
    ceiling = ceilings.bf16 if best.endswith("bf16") else ceilings.fp32
    least = {
        "its products": costs[best].flops / ceiling,
        "its memory traffic": costs[best].bytes / ceilings.copy,
    }
    bound = max(least, key=lambda name: least[name])
    if least[bound] < own / 3:
        bound = "neither but the number of its operators"
    takes = ", ".join(f"{name} at least {1e3 * s:.1f} ms" for name, s in least.items())
    print(f"{best} takes {1e3 * own:.1f} ms, {takes}: what bounds the step is {bound}")


def contenders(
    workload: str, size: int, options: argparse.Namespace, device: torch.device, *, replay: bool
) -> dict[str, "Step"]:
    """Return a training step by name."""
    settings = WORKLOADS[workload] | {"width": options.width, "batch": options.batch}
    examples = random_examples(size, device)
    steps: dict[str, Step] = {}
    for precision in ("fp32", "bf16"):
        config = TrainGan.model_validate(
            settings
            | {"seed": 1, "threads": options.threads, "steps": 10**6, "precision": precision}
        )
        steps[f"auglift {precision}"] = auglift_step(config, examples, device, replay=replay)
    shape = build_architecture(config, examples)
    steps["tutorial"] = TutorialLoop(config, shape, examples, device)
    steps["monai"] = MonaiTrainer(config, shape, examples, device)
    return steps


def random_examples(size: int, device: torch.device, n: int = 512) -> TrainingData:
    """Make noise in place of slices: a step takes as long."""
    random = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(n, 2, size, size, generator=random) - 1
    labels = torch.arange(n) % 2
    none, tumor = (torch.nonzero(labels == label)[:, 0].to(device) for label in (0, 1))
    every = LabelledSlices(x.to(device), labels.to(device), (none, tumor), frozenset("abcd"))
    return TrainingData(every, every)


def auglift_step(
    config: TrainGan, examples: TrainingData, device: torch.device, *, replay: bool
) -> "Step":
    """Return the stage's own step."""
    trainer = Trainer(config, build_architecture(config, examples), device)
    if not replay:
        trainer.run_update = trainer.update_networks
    numbers = iter(range(1, 10**6))
    return lambda: trainer.step(next(numbers), examples)


def time_startup(threads: int) -> str:
    """Time the real stage from its process's start to the end of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        gan = {"threads": threads, "width": 16, "batch": 16, "precision": "auto"}
        write_workspace(Path(folder), gan=gan)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_STEP], cwd=folder, env=environment, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
    ended, cpu, loaded = map(float, done.stdout.split()[-3:])
    return (
        f"startup to the end of the first step: {ended - started:.1f} s; {cpu:.1f} CPU seconds,"
        f" {loaded:.1f} of them for its imports"
    )


if __name__ == "__main__":
    main()
