"""Train a fold's generator on its training slices, watched on its validation slices.

Reads `data/slices`; writes `data/gan/FOLD`: `generator.safetensors` (EMA weights with their own
batch-norm statistics), `config.json`, `history.csv`, `metrics.json` (the checkpoint that was kept),
the sample sheets, and `networks.safetensors`, from which another training can start.
"""

import json
from pathlib import Path

from tasks import params
from tasks.common import torch_setup
from tasks.common.slice_set import read_slices
from tasks.params.train_gan import TrainGan
from tasks.stage import stage_io
from tasks.stage.stage_runtime import run_stage

INPUTS = ("images.npy", "masks.npy", "slices.parquet")


def main(fold: str) -> None:
    """Train, or note that the slices come from elsewhere."""
    asked = params.read_section(TrainGan)
    source = str(params.read_key("synthetic.source"))
    folder = Path("data/gan") / fold
    if Path(source) != Path("data/gan"):
        with stage_io.atomic_output(folder) as out:
            write_external(out, source)
        return

    from tasks.train_gan import distributed

    if asked.processes > 1 and not distributed.launched():
        distributed.launch(asked.processes, fold)
        return

    from tasks.train_gan import checkpoint
    from tasks.train_gan.trainer import takes_bf16
    from tasks.train_gan.training_data import to_device
    from tasks.train_gan.training_loop import run_secondary_rank, train

    device = torch_setup.setup_torch(asked.threads)
    mine = distributed.join(asked.processes, device)
    if not mine.first and mine.broadcast_decision(distributed.GO_ON, device) == distributed.STOP:
        return  # the first one has said what is wrong with the slices
    with mine.ending_together(device):
        examples = to_device(
            read_slices(fold, "train"),
            read_slices(fold, "val"),
            soften=asked.soften,
            device=device,
            conditions=asked.conditions,
        )
    inputs = [Path("data/slices") / name for name in INPUTS]
    words = [fold, device.type, str(takes_bf16(asked, device)), asked.model_dump_json()]
    kept = checkpoint.folder_of(words, inputs)
    if mine.first:
        mine.broadcast_decision(distributed.GO_ON, device)
        with stage_io.atomic_output(folder) as out:
            train(asked, examples, fold, out=out, kept=kept, ranks=mine)
    else:
        run_secondary_rank(asked, examples, kept=kept, ranks=mine)
    distributed.leave(mine)


def write_external(out: Path, source: str) -> None:
    """Say where the slices come from; there is nothing to train."""
    from tasks.train_gan.history_columns import COLUMNS

    config = {"kind": "external", "source": source}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out / "history.csv").write_text(",".join(COLUMNS) + "\n")
    (out / "metrics.json").write_text("{}\n")


if __name__ == "__main__":
    run_stage(main)
