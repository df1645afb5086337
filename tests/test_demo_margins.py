"""The demo's verdict does not hang on its seed or on the precision.

Some measures are `uncertain` with some seeds, and the set is accepted all the same (docs/judge.md
has the figures). As the demo ships, each ratio keeps its limit.

It takes some three minutes on one core for each seed and precision. Where the processor does not
multiply bfloat16 itself, a training in it would take an hour: those are skipped.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.common.torch_setup import supports_bf16
from tests import test_end_to_end

pytestmark = [pytest.mark.verify, pytest.mark.timeout(2 * 3600)]
SHIPPED = 3, "fp32"
SEEDS = (3, 4, 5, 6, 7)
ACCEPTED = 0.75  # share of the slices, where half is asked for


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the demo, up to its slices."""
    root = test_end_to_end.clone(tmp_path_factory.mktemp("demo"), tiny=False)
    for words in (["phantom"], ["ingest", "--batch", "phantom"], ["slices"]):
        run_stage(root, *words)
    return root


def run_stage(root: Path, name: str, *words: str, allowed: tuple[int, ...] = (0,)) -> None:
    done = test_end_to_end.run(root, sys.executable, "-m", f"tasks.{name}", *words)
    assert done.returncode in allowed, done.stderr


def set_params(root: Path, **changes: Any) -> None:
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["train_gan"] |= changes
    path.write_text(yaml.safe_dump(params))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_demo_is_accepted_whatever_its_seed(cohort: Path, seed: int, precision: str) -> None:
    if precision == "bf16" and not supports_bf16("cpu"):
        pytest.skip("this processor has no bfloat16 instructions")
    set_params(cohort, seed=seed, precision=precision)
    for name in ("train_gan", "generate"):
        run_stage(cohort, name, "--fold", "0")
    run_stage(cohort, "gate", "--fold", "0", allowed=(0, 3))
    metrics = json.loads((cohort / "data/gate/0/metrics.json").read_text())
    images = metrics["images"]
    limited = {name: one for name, one in metrics["measures"].items() if one["status"] is not None}
    print(f"\nseed {seed}, {precision}: {metrics['verdict']}, {images}")
    print({name: (round(one["ratio"], 2), one["status"]) for name, one in limited.items()})
    assert metrics["verdict"] == "accepted", metrics["reasons"]
    assert images["accepted"] >= ACCEPTED * images["n"]
    if (seed, precision) == SHIPPED:
        for name, measure in limited.items():
            low, high = measure["limit"]
            assert low is None or measure["ratio"] >= low, name
            assert high is None or measure["ratio"] <= high, name
