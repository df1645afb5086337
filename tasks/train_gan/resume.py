"""Start a training, resume it from its checkpoint, or start it again with the next seed."""

import sys
from pathlib import Path

from models.dcgan import Architecture
from tasks.params.train_gan import TrainGan
from tasks.stage.errors import InputError
from tasks.train_gan import checkpoint, pretrained_init
from tasks.train_gan.conditions import generator_buffers
from tasks.train_gan.distributed import Ranks
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_data import TrainingData
from tasks.train_gan.training_state import TrainingState


def resume_or_start(
    config: TrainGan, examples: TrainingData, checkpoint_folder: Path, ranks: Ranks
) -> tuple[Trainer, TrainingState]:
    """Return trainer and state of the checkpoint, or new ones where there is none."""
    stored = checkpoint.load_checkpoint(checkpoint_folder)
    ranks.barrier()  # or the first could overwrite or remove what another has not read
    if stored is None:
        return new_trainer(config, examples, ranks), TrainingState()
    tensors, metadata = stored
    config = config.model_copy(update={"seed": metadata["seed"]})
    trainer = untrained_trainer(config, examples, ranks)
    trainer.unpack(tensors, metadata)
    return trainer, TrainingState.unpack(tensors, metadata)


def new_trainer(config: TrainGan, examples: TrainingData, ranks: Ranks) -> Trainer:
    """Make a trainer with networks of the seed, or of the training that `start_from` names."""
    trainer = untrained_trainer(config, examples, ranks)
    if config.start_from:
        pretrained_init.load_networks(trainer, Path(config.start_from), config.start_sha256)
    train = examples.train
    if train.conditions is not None and examples.condition_scale is not None:
        trainer.set_condition_buffers(
            generator_buffers(
                examples.condition_names, train.conditions, train.labels, examples.condition_scale
            )
        )
    return trainer


def untrained_trainer(config: TrainGan, examples: TrainingData, ranks: Ranks) -> Trainer:
    """Make a trainer with networks of the seed."""
    return Trainer(
        config,
        build_architecture(config, examples),
        examples.train.x.device,
        ranks,
        sees_images=examples.without_outlines is not None,
    )


def save_checkpoint(checkpoint_folder: Path, trainer: Trainer, state: TrainingState) -> None:
    """Write a checkpoint."""
    networks, counts = trainer.pack()
    best, metadata = state.pack()
    checkpoint.save_checkpoint(checkpoint_folder, networks | best, counts | metadata)


def restart_with_next_seed(
    trainer: Trainer, state: TrainingState, examples: TrainingData, fault: str, fold: str
) -> tuple[Trainer, TrainingState]:
    """Start over with the next seed.

    Raises:
        InputError: when that was the second attempt.
    """
    failure = f"at step {state.step}: {fault}"
    if state.restarted:
        raise InputError(
            f"training failed twice, {state.restarted}; with the next seed {failure}; make"
            " train_gan.learning_rate and train_gan.discriminator_rate smaller, rerun"
        )
    config = with_next_seed(trainer.config)
    print(f"train_gan@{fold}: {failure}; starting over with seed {config.seed}", file=sys.stderr)
    new = new_trainer(config, examples, trainer.ranks)
    return new, TrainingState(seconds=state.seconds, restarted=failure)


def with_next_seed(config: TrainGan) -> TrainGan:
    """Return the params of a second attempt."""
    return config.model_copy(update={"seed": config.seed + 1})


def build_architecture(config: TrainGan, examples: TrainingData) -> Architecture:
    """Return the architecture that fits these slices and params.

    Raises:
        InputError: when the sites leave no place of z for noise.
    """
    names = examples.condition_names
    if len(names) >= config.latent:
        raise InputError(
            f"train_gan.latent is {config.latent}, but train_gan.conditions with the cohort's sites"
            f" take {len(names)} of its places; make it {len(names) + 1} or longer"
        )
    return Architecture(
        size=examples.train.x.shape[-1],
        channels=examples.train.x.shape[1] - 1,
        latent=config.latent,
        width=config.width,
        smooth_upsampling=config.smooth_upsampling,
        excitation=config.excitation,
        discriminator_norm=config.discriminator_norm,
        minibatch_stddev=config.minibatch_stddev,
        projection=config.projection,
        conditions=names,
        pretrained_features=config.pretrained_features,
        masked=examples.train.masked,
    )
