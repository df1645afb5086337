"""Two networks, two optimisers, and one training step that can be read top to bottom."""

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
from tasks.measures.features import load_extractor
from tasks.params.train_gan import TrainGan
from tasks.train_gan.adaptive_augmentation import Adaptive
from tasks.train_gan.cuda_graphs import CudaGraphStep
from tasks.train_gan.distributed import Ranks
from tasks.train_gan.step_inputs import StepInputs, draw_step_inputs
from tasks.train_gan.training_data import TrainingData

SUMS = ("loss_d", "loss_g", "r1", "l1", "feature_matching")
RAMP = 0.05  # the EMA looks back over this share of the steps so far, at most
RECALIBRATION = 4  # batches that set the EMA generator's batch-norm statistics


class Trainer:
    """Everything that a training step changes.

    All randomness of step t comes from (seed, t), so that a run continues from its weights alone.
    """

    def __init__(
        self,
        asked: TrainGan,
        architecture: Architecture,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.asked = asked
        self.architecture = architecture
        self.device = device
        self.ranks = ranks or Ranks()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(asked.seed)
            generator = Generator(architecture)
            discriminator = new_discriminator(architecture, device)
        layout = torch.channels_last
        self.generator: Generator = generator.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.discriminator: nn.Module = discriminator.to(device, memory_format=layout)  # type: ignore[call-overload]
        # Only the first process draws from the averaged weights: their batch norm is its own.
        self.ema: Generator = copy.deepcopy(self.generator).requires_grad_(False)
        if self.ranks.count > 1:
            replace_batch_norms(self.generator)
            replace_batch_norms(self.discriminator)
        self.generator_adam = adam(self.generator, asked.learning_rate, asked, device)
        self.discriminator_adam = adam(self.discriminator, asked.discriminator_rate, asked, device)
        self.augment = DiffAugment(**asked.diffaugment.model_dump())
        self.adaptive = Adaptive(asked, device)
        self.bf16 = takes_bf16(asked, device)
        self.losses = torch.zeros(len(SUMS), device=device)  # of one step
        self.sums = torch.zeros(len(SUMS), device=device)
        self.summed = 0
        # An all-reduce is not recorded: several processes take plain steps.
        alone = self.ranks.count == 1
        self.take = CudaGraphStep(self.update, device) if alone else self.update

    @torch.no_grad()
    def set_condition_distribution(self, mean: Tensor, root: Tensor, scale: Tensor) -> None:
        """Tell the generators which conditions the training slices showed."""
        for network in (self.generator, self.ema):
            network.get_buffer("condition_mean").copy_(mean)
            network.get_buffer("condition_root").copy_(root)
            network.get_buffer("condition_scale").copy_(scale)

    def step(self, number: int, examples: TrainingData) -> None:
        """One update of each network, on one batch of generated slices."""
        self.set_rates(number)
        draws = draw_step_inputs(self.asked, number, examples, self.ranks)
        penalised = self.asked.r1_gamma > 0 and number % self.asked.r1_every == 0
        real_logits = self.take(draws, penalised)
        self.adaptive.observe(number, real_logits)
        self.update_ema(number)
        self.ranks.average([self.losses])  # at every step: one process's checkpoint is all's
        self.sums += self.losses
        self.losses.zero_()
        self.summed += 1

    def update(self, draws: StepInputs, penalised: bool) -> Tensor:
        """Both networks' updates; nothing here waits for the device, or is random.

        Returns:
            The real slices' logits.
        """
        asked, often = self.asked, self.adaptive.probability
        real, labels, conditions = draws.real, draws.labels, draws.conditions
        with self.autocast():
            fake = self.generator(draws.z, labels, conditions)  # (B,C+1,H,W)
        fake = fake.float()

        self.discriminator.requires_grad_(True)
        seen_real = self.augment.apply(real, draws.views[0], often).requires_grad_(penalised)
        seen_fake = self.augment.apply(fake.detach(), draws.views[1], often)
        real_logits, fake_logits = self.score_both(seen_real, seen_fake, draws)
        loss_d = total = discriminator_loss(real_logits, fake_logits, loss=asked.loss)
        if penalised:
            # Lazy (Karras 2020, appendix B): seldom, and as many times stronger.
            r1 = r1_penalty(real_logits, seen_real)
            total = total + asked.r1_gamma * asked.r1_every * r1
            self.add("r1", r1 * asked.r1_every)
        if asked.gradient_penalty:
            penalty = gradient_penalty(
                lambda x: self.score(x, labels, conditions)[0], seen_real, seen_fake, draws.mix
            )
            total = total + asked.gradient_penalty * penalty
        self.optimiser_step(self.discriminator_adam, total)

        # Its own gradients are not needed while the generator learns from it.
        self.discriminator.requires_grad_(False)
        seen_fake = self.augment.apply(fake, draws.views[2], often)
        fake_logits, fake_features = self.score(seen_fake, labels, conditions)
        loss_g = total = generator_loss(fake_logits, loss=asked.loss)
        if asked.l1:
            l1 = l1_to_label_mean(fake, labels, label_means(draws.all_real, draws.all_labels))
            total = total + asked.l1 * l1
            self.add("l1", l1)
        if asked.feature_matching:
            with torch.no_grad():
                _, real_features = self.score(seen_real.detach(), labels, conditions)
            matching = feature_matching(fake_features, real_features)
            total = total + asked.feature_matching * matching
            self.add("feature_matching", matching)
        self.optimiser_step(self.generator_adam, total)
        self.add("loss_d", loss_d)
        self.add("loss_g", loss_g)
        return real_logits.detach()

    def optimiser_step(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        """One step down a loss, which is the mean over all processes."""
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        slopes = (parameter.grad for parameter in adam.param_groups[0]["params"])
        self.ranks.average(slope for slope in slopes if slope is not None)
        adam.step()

    def set_rates(self, number: int) -> None:
        """Let the learning rates fall linearly over the last steps, where `decay` asks for it."""
        asked = self.asked
        falling = asked.decay * asked.steps
        share = min(1.0, (asked.steps - number + 1) / falling) if falling else 1.0
        for adam, rate in (
            (self.generator_adam, asked.learning_rate),
            (self.discriminator_adam, asked.discriminator_rate),
        ):
            group = adam.param_groups[0]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * share)  # in place: a recorded step reads it
            else:
                group["lr"] = rate * share

    @property
    def precision(self) -> str:
        """What the products are computed in."""
        return "bf16" if self.bf16 else "fp32"

    def autocast(self) -> AbstractContextManager[None]:
        """Products in bfloat16 where asked for; weights and losses stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def score(
        self, x: Tensor, labels: Tensor, conditions: Tensor | None = None, parts: int = 1
    ) -> tuple[Tensor, Tensor]:
        """The discriminator's logits (B,) and features (B,F) in float32."""
        with self.autocast():
            logits, features = self.discriminator(x, labels, conditions, parts)
        return logits.float(), features.float()

    def score_both(self, real: Tensor, fake: Tensor, draws: StepInputs) -> tuple[Tensor, Tensor]:
        """Logits (B,) of real and of generated slices.

        In one pass, which saves a sixteenth of a step, unless batch norm would mix them (Radford
        2016 keeps them apart) or a gradient penalty would drag the generated ones along.
        """
        labels, conditions = draws.labels, draws.conditions
        if self.asked.discriminator_norm == "batch" or real.requires_grad:
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
        half_life = min(self.asked.ema_half_life, RAMP * number)
        keep = 0.5 ** (1 / half_life) if half_life > 0 else 0.0
        old: list[Tensor] = list(self.ema.parameters())
        new: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(old, new, 1 - keep)

    @torch.no_grad()
    def sampler(self) -> Generator:
        """The EMA generator in evaluation mode, its batch-norm statistics those of its weights.

        Averaged weights with the statistics of others would draw washed-out slices.
        """
        norms = [m for m in self.ema.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches that follow
        self.ema.train()
        labels = torch.arange(64, device=self.device) % 2
        for index in range(RECALIBRATION):
            z = seeded_noise(range(64 * index, 64 * (index + 1)), self.asked.latent).to(self.device)
            self.ema(z, labels)
        self.ema.eval()
        return self.ema

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON facts from which `unpack` goes on as if nothing had happened."""
        tensors = {"sums": self.sums, "adaptive": self.adaptive.pack()}
        for part, network in self.networks().items():
            tensors |= {f"{part}.{name}": value for name, value in network.state_dict().items()}
        for part, adam in self.optimisers().items():
            for index, parameter in enumerate(adam.param_groups[0]["params"]):
                for name, value in adam.state[parameter].items():
                    tensors[f"{part}.{index}.{name}"] = value
        return tensors, {"seed": self.asked.seed, "summed": self.summed}

    def unpack(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
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
        self.summed = int(facts["summed"])
        self.adaptive.unpack(tensors["adaptive"])

    def networks(self) -> dict[str, nn.Module]:
        """Everything with weights."""
        return {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}

    def optimisers(self) -> dict[str, torch.optim.Adam]:
        """Both optimisers."""
        return {
            "generator_adam": self.generator_adam,
            "discriminator_adam": self.discriminator_adam,
        }

    def add(self, name: str, value: Tensor) -> None:
        """Note a loss on the device; nothing waits for it."""
        self.losses[SUMS.index(name)].add_(value.detach())

    def means(self) -> dict[str, float]:
        """Mean losses since the last call, over the slices of all processes."""
        means = (self.sums / max(self.summed, 1)).tolist()
        self.sums.zero_()
        self.summed = 0
        return dict(zip(SUMS, means, strict=True))


def adam(
    network: nn.Module, rate: float, asked: TrainGan, device: torch.device
) -> torch.optim.Adam:
    """A network's optimiser; on a GPU its rate lies there, where a recorded step reads it."""
    gpu = device.type == "cuda"
    lr = torch.tensor(rate, device=device) if gpu else rate
    betas = (asked.beta1, asked.beta2)
    return torch.optim.Adam(network.parameters(), lr, betas, fused=True, capturable=gpu)


def new_discriminator(architecture: Architecture, device: torch.device) -> nn.Module:
    """The plain discriminator, or the one that sees through the bundled pretrained network."""
    if not architecture.pretrained_features:
        return Discriminator(architecture)
    network = load_extractor(str(device)).network
    assert isinstance(network, EfficientNetLite0Features)
    return ProjectedDiscriminator(architecture, network)


def takes_bf16(asked: TrainGan, device: torch.device) -> bool:
    """Whether products are computed in bfloat16: as asked, or where the hardware has it."""
    return asked.precision == "bf16" or (asked.precision == "auto" and has_bf16(device.type))


def has_bf16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16; emulation is slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
