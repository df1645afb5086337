"""Train a fold's generator on its training slices and evaluate it on its validation slices.

Reads `data/slices`; writes `data/gan/FOLD`: `generator.safetensors` (EMA weights with their own
batch-norm statistics), `config.json`, `history.csv`, `metrics.json` (of the best checkpoint), the
sample sheets, and `networks.safetensors`, from which another training can start.
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
    """Train the fold's generator, or record that the synthetic slices come from a folder."""
    config = params.read_section(TrainGan)
    source = str(params.read_key("synthetic.source"))
    folder = Path("data/gan") / fold
    if Path(source) != Path("data/gan"):
        with stage_io.atomic_output(folder) as out:
            write_external_source(out, source)
        return

    from tasks.train_gan import distributed

    if config.processes > 1 and not distributed.is_launched():
        distributed.launch_processes(config.processes, fold)
        return

    from tasks.train_gan import checkpoint
    from tasks.train_gan.training_data import to_device
    from tasks.train_gan.training_loop import run_secondary_rank, train

    device = torch_setup.setup_torch(config.threads)
    ranks = distributed.join_process_group(config.processes, device)
    if (
        not ranks.is_first
        and ranks.broadcast_decision(distributed.CONTINUE, device) == distributed.STOP
    ):
        return  # the first process has reported what is wrong with the slices
    with ranks.stop_all_on_error(device):
        examples = to_device(
            read_slices(fold, "train"),
            read_slices(fold, "val"),
            mask_peak=config.soften,
            device=device,
            conditions=config.conditions,
            without_outlines=config.unlabelled_weight > 0,
        )
    inputs = [Path("data/slices") / name for name in INPUTS]
    settings = [
        fold,
        device.type,
        str(torch_setup.uses_bf16(config.precision, device)),
        config.model_dump_json(),
    ]
    checkpoint_folder = checkpoint.checkpoint_folder(settings, inputs)
    if ranks.is_first:
        ranks.broadcast_decision(distributed.CONTINUE, device)
        with stage_io.atomic_output(folder) as out:
            train(config, examples, fold, out=out, checkpoint_folder=checkpoint_folder, ranks=ranks)
    else:
        run_secondary_rank(config, examples, checkpoint_folder=checkpoint_folder, ranks=ranks)
    distributed.leave_process_group(ranks)


def write_external_source(out: Path, source: str) -> None:
    """Write outputs that name the folder of external slices; nothing is trained."""
    from tasks.train_gan.history_columns import COLUMNS

    config = {"kind": "external", "source": source}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out / "history.csv").write_text(",".join(COLUMNS) + "\n")
    (out / "metrics.json").write_text("{}\n")


if __name__ == "__main__":
    run_stage(main)
