"""Hold two networks, their optimisers, and one training step that can be read top to bottom."""

import copy
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from models.dcgan import Architecture, Discriminator, Generator, seeded_noise
from models.diffaugment import DiffAugment
from models.efficientnet_features import EfficientNetLite0Features
from models.losses import (
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
    l1_to_label_mean,
    label_means,
    r1_penalty,
)
from models.projected_discriminator import ProjectedDiscriminator
from models.sync_batch_norm import replace_batch_norms
from tasks.common.torch_setup import uses_bf16
from tasks.measures.features.feature_extraction import load_extractor
from tasks.params.train_gan import TrainGan
from tasks.train_gan.adaptive_augmentation import AdaptiveAugmentation
from tasks.train_gan.cuda_graphs import CudaGraphStep
from tasks.train_gan.distributed import Ranks
from tasks.train_gan.step_inputs import StepInputs, make_step_inputs
from tasks.train_gan.training_data import TrainingData

LOSSES = ("loss_d", "loss_g", "r1", "l1", "feature_matching")
EMA_RAMP = 0.05  # the EMA looks back over this share of the steps so far, at most
RECALIBRATION_BATCHES = 4  # batches that set the EMA generator's batch-norm statistics


class Trainer:
    """Everything that a training step changes.

    All randomness of step t comes from (seed, t), so a run can continue from its weights alone.
    """

    def __init__(
        self,
        config: TrainGan,
        architecture: Architecture,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self.architecture = architecture
        self.device = device
        self.ranks = ranks or Ranks()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator = Generator(architecture)
            discriminator = new_discriminator(architecture, device)
        layout = torch.channels_last
        self.generator: Generator = generator.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.discriminator: nn.Module = discriminator.to(device, memory_format=layout)  # type: ignore[call-overload]
        # Only the first process samples from the averaged weights: their batch norm is its own.
        self.ema: Generator = copy.deepcopy(self.generator).requires_grad_(False)
        if self.ranks.world_size > 1:
            replace_batch_norms(self.generator)
            replace_batch_norms(self.discriminator)
        self.generator_adam = new_adam(self.generator, config.learning_rate, config, device)
        self.discriminator_adam = new_adam(
            self.discriminator, config.discriminator_rate, config, device
        )
        self.augment = DiffAugment(**config.diffaugment.model_dump())
        self.adaptive = AdaptiveAugmentation(config, device)
        self.bf16 = uses_bf16(config.precision, device)
        self.losses = torch.zeros(len(LOSSES), device=device)  # of one step
        self.sums = torch.zeros(len(LOSSES), device=device)
        self.steps_summed = 0
        # An all-reduce is not recorded: several processes take plain steps.
        single_process = self.ranks.world_size == 1
        self.run_update = (
            CudaGraphStep(self.update_networks, device) if single_process else self.update_networks
        )

    @torch.no_grad()
    def set_condition_distribution(self, mean: Tensor, root: Tensor, scale: Tensor) -> None:
        """Store the distribution of the training slices' conditions in both generators."""
        for network in (self.generator, self.ema):
            network.get_buffer("condition_mean").copy_(mean)
            network.get_buffer("condition_root").copy_(root)
            network.get_buffer("condition_scale").copy_(scale)

    def step(self, number: int, examples: TrainingData) -> None:
        """Update each network once on one batch."""
        self.set_rates(number)
        inputs = make_step_inputs(self.config, number, examples, self.ranks)
        penalised = self.config.r1_gamma > 0 and number % self.config.r1_every == 0
        real_logits = self.run_update(inputs, penalised)
        self.adaptive.update_probability(number, real_logits)
        self.update_ema(number)
        # At every step, so that any process's checkpoint holds the losses of all.
        self.ranks.average_in_place([self.losses])
        self.sums += self.losses
        self.losses.zero_()
        self.steps_summed += 1

    def update_networks(self, inputs: StepInputs, penalised: bool) -> Tensor:
        """Update discriminator, then generator; nothing here waits for the device or is random.

        Returns:
            Logits (B,) of the real slices.
        """
        config, probability = self.config, self.adaptive.probability
        real, labels, conditions = inputs.real, inputs.labels, inputs.conditions
        with self.autocast():
            fake = self.generator(inputs.z, labels, conditions)  # (B,C+1,H,W)
        fake = fake.float()

        self.discriminator.requires_grad_(True)
        seen_real = self.augment.apply(real, inputs.augmentation[0], probability)  # (B,C+1,H,W)
        seen_real.requires_grad_(penalised)
        seen_fake = self.augment.apply(fake.detach(), inputs.augmentation[1], probability)
        real_logits, fake_logits = self.score_both(seen_real, seen_fake, inputs)  # (B,) each
        loss_d = total = discriminator_loss(real_logits, fake_logits, loss=config.loss)
        if penalised:
            # Lazy R1 (Karras 2020, appendix B): every r1_every steps, that many times stronger.
            r1 = r1_penalty(real_logits, seen_real)
            total = total + config.r1_gamma * config.r1_every * r1
            self.add_loss("r1", r1 * config.r1_every)
        if config.gradient_penalty:
            penalty = gradient_penalty(
                lambda x: self.score(x, labels, conditions)[0], seen_real, seen_fake, inputs.mix
            )
            total = total + config.gradient_penalty * penalty
        self.optimiser_step(self.discriminator_adam, total)

        # The discriminator needs no gradients of its own while the generator learns from it.
        self.discriminator.requires_grad_(False)
        seen_fake = self.augment.apply(fake, inputs.augmentation[2], probability)
        fake_logits, fake_features = self.score(seen_fake, labels, conditions)
        loss_g = total = generator_loss(fake_logits, loss=config.loss)
        if config.l1:
            l1 = l1_to_label_mean(fake, labels, label_means(inputs.all_real, inputs.all_labels))
            total = total + config.l1 * l1
            self.add_loss("l1", l1)
        if config.feature_matching:
            with torch.no_grad():
                _, real_features = self.score(seen_real.detach(), labels, conditions)
            matching = feature_matching(fake_features, real_features)
            total = total + config.feature_matching * matching
            self.add_loss("feature_matching", matching)
        self.optimiser_step(self.generator_adam, total)
        self.add_loss("loss_d", loss_d)
        self.add_loss("loss_g", loss_g)
        return real_logits.detach()

    def optimiser_step(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        """Take one optimiser step on a loss whose gradients are averaged over all processes."""
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = (parameter.grad for parameter in adam.param_groups[0]["params"])
        self.ranks.average_in_place(gradient for gradient in gradients if gradient is not None)
        adam.step()

    def set_rates(self, number: int) -> None:
        """Lower the learning rates linearly over the last steps, where `decay` asks for it."""
        config = self.config
        falling = config.decay * config.steps
        share = min(1.0, (config.steps - number + 1) / falling) if falling else 1.0
        for adam, rate in (
            (self.generator_adam, config.learning_rate),
            (self.discriminator_adam, config.discriminator_rate),
        ):
            group = adam.param_groups[0]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * share)  # in place: a recorded step reads it
            else:
                group["lr"] = rate * share

    @property
    def precision(self) -> str:
        """The number format of matrix products: bf16 or fp32."""
        return "bf16" if self.bf16 else "fp32"

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of bfloat16 products; weights and losses stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def score(
        self, x: Tensor, labels: Tensor, conditions: Tensor | None = None, parts: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits (B,) and features (B,F) in float32."""
        with self.autocast():
            logits, features = self.discriminator(x, labels, conditions, parts)
        return logits.float(), features.float()

    def score_both(self, real: Tensor, fake: Tensor, inputs: StepInputs) -> tuple[Tensor, Tensor]:
        """Return logits (B,) of real and of generated slices.

        One pass serves both, which saves a sixteenth of a step. There are two passes where batch
        norm would mix them (Radford 2016 keeps them apart) or where a gradient penalty would also
        compute gradients for the generated ones.
        """
        labels, conditions = inputs.labels, inputs.conditions
        if self.config.discriminator_norm == "batch" or real.requires_grad:
            real_logits, fake_logits = (self.score(x, labels, conditions)[0] for x in (real, fake))
            return real_logits, fake_logits
        if conditions is not None:
            conditions = conditions.repeat(2, 1)
        logits, _ = self.score(torch.cat([real, fake]), labels.repeat(2), conditions, 2)
        real_logits, fake_logits = logits.chunk(2)
        return real_logits, fake_logits

    @torch.no_grad()
    def update_ema(self, number: int) -> None:
        """Move the EMA weights towards the generator's; early in a run they follow closely."""
        half_life = min(self.config.ema_half_life, EMA_RAMP * number)
        keep = 0.5 ** (1 / half_life) if half_life > 0 else 0.0
        old: list[Tensor] = list(self.ema.parameters())
        new: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(old, new, 1 - keep)

    @torch.no_grad()
    def recalibrate_ema(self) -> Generator:
        """Return the EMA generator, ready to sample, with batch-norm statistics of its own weights.

        Averaged weights with the statistics of other weights would make washed-out slices.
        """
        norms = [m for m in self.ema.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches that follow
        self.ema.train()
        labels = torch.arange(64, device=self.device) % 2
        for index in range(RECALIBRATION_BATCHES):
            z = seeded_noise(range(64 * index, 64 * (index + 1)), self.config.latent).to(
                self.device
            )
            self.ema(z, labels)
        self.ema.eval()
        return self.ema

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON metadata from which `unpack` continues the training."""
        tensors = {"sums": self.sums, "adaptive": self.adaptive.pack()}
        for part, network in self.networks().items():
            tensors |= {f"{part}.{name}": value for name, value in network.state_dict().items()}
        for part, adam in self.optimisers().items():
            for index, parameter in enumerate(adam.param_groups[0]["params"]):
                for name, value in adam.state[parameter].items():
                    tensors[f"{part}.{index}.{name}"] = value
        return tensors, {"seed": self.config.seed, "summed": self.steps_summed}

    def unpack(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        for part, network in self.networks().items():
            network.load_state_dict(
                {name: tensors[f"{part}.{name}"] for name in network.state_dict()}
            )
        for part, adam in self.optimisers().items():
            for index, parameter in enumerate(adam.param_groups[0]["params"]):
                for name in ("exp_avg", "exp_avg_sq"):
                    # In the parameter's memory layout, as Adam would have made it.
                    moment = torch.empty_like(parameter.detach())
                    adam.state[parameter][name] = moment.copy_(tensors[f"{part}.{index}.{name}"])
                step = tensors[f"{part}.{index}.step"]
                adam.state[parameter]["step"] = step.to(self.device)
        self.sums.copy_(tensors["sums"])
        self.steps_summed = int(metadata["summed"])
        self.adaptive.unpack(tensors["adaptive"])

    def networks(self) -> dict[str, nn.Module]:
        """Return all networks by name."""
        return {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}

    def optimisers(self) -> dict[str, torch.optim.Adam]:
        """Return both optimisers by name."""
        return {
            "generator_adam": self.generator_adam,
            "discriminator_adam": self.discriminator_adam,
        }

    def add_loss(self, name: str, value: Tensor) -> None:
        """Add a loss on the device without waiting for it."""
        self.losses[LOSSES.index(name)].add_(value.detach())

    def mean_losses(self) -> dict[str, float]:
        """Return mean losses since the last call, over the slices of all processes."""
        means = (self.sums / max(self.steps_summed, 1)).tolist()
        self.sums.zero_()
        self.steps_summed = 0
        return dict(zip(LOSSES, means, strict=True))


def new_adam(
    network: nn.Module, rate: float, config: TrainGan, device: torch.device
) -> torch.optim.Adam:
    """Make a network's optimiser; on a GPU a recorded step reads its rate from a tensor."""
    gpu = device.type == "cuda"
    lr = torch.tensor(rate, device=device) if gpu else rate
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam(network.parameters(), lr, betas, fused=True, capturable=gpu)


def new_discriminator(architecture: Architecture, device: torch.device) -> nn.Module:
    """Make the plain discriminator, or the one on top of the bundled pretrained network."""
    if not architecture.pretrained_features:
        return Discriminator(architecture)
    network = load_extractor(str(device)).network
    assert isinstance(network, EfficientNetLite0Features)
    return ProjectedDiscriminator(architecture, network)
