"""Hold the networks, their optimisers, and one training step that can be read top to bottom."""

import copy
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.dcgan import Architecture, Discriminator, Generator, seeded_noise
from models.efficientnet_features import EfficientNetLite0Features
from models.losses import l1_to_label_mean, label_means
from models.projected_discriminator import ProjectedDiscriminator
from models.sync_batch_norm import replace_batch_norms
from tasks.common.torch_setup import uses_bf16
from tasks.measures.features.feature_extraction import load_extractor
from tasks.params.train_gan import TrainGan
from tasks.train_gan.adaptive_augmentation import AdaptiveAugmentation
from tasks.train_gan.cuda_graphs import CudaGraphStep
from tasks.train_gan.discriminator_trainer import DiscriminatorTrainer
from tasks.train_gan.distributed import Ranks
from tasks.train_gan.step_inputs import StepInputs, make_step_inputs
from tasks.train_gan.training_data import TrainingData

LOSSES = ("loss_d", "loss_g", "r1", "l1", "feature_matching")
IMAGES = "_images"  # ends the names of the losses of the discriminator without masks
IMAGE_LOSSES = tuple(name + IMAGES for name in LOSSES if name != "l1")
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
        *,
        sees_images: bool = False,
    ) -> None:
        """Make networks and optimisers; `sees_images`: a second discriminator sees no masks."""
        self.config = config
        self.architecture = architecture
        self.device = device
        self.ranks = ranks or Ranks()
        self.bf16 = uses_bf16(config.precision, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator = Generator(architecture)
            networks = {"discriminator": new_discriminator(architecture, device)}
            if sees_images:
                networks["image_discriminator"] = new_discriminator(
                    replace(architecture, conditions=()), device, sees_mask=False
                )
        layout = torch.channels_last
        self.generator: Generator = generator.to(device, memory_format=layout)  # type: ignore[call-overload]
        # Only the first process samples from the averaged weights: their batch norm is its own.
        self.ema: Generator = copy.deepcopy(self.generator).requires_grad_(False)
        if self.ranks.world_size > 1:
            replace_batch_norms(self.generator)
        self.generator_adam = new_adam(self.generator, config.learning_rate, config, device)
        self.discriminators = {
            name: self.new_discriminator_trainer(network, suffix)
            for (name, network), suffix in zip(networks.items(), ("", IMAGES), strict=False)
        }
        self.joint = self.discriminators["discriminator"]
        self.adaptive = AdaptiveAugmentation(config, device)
        self.loss_names = [*LOSSES, *(IMAGE_LOSSES if sees_images else ())]
        self.losses = torch.zeros(len(self.loss_names), device=device)  # of one step
        self.sums = torch.zeros(len(self.loss_names), device=device)
        self.steps_summed = 0
        # An all-reduce is not recorded: several processes take plain steps.
        single_process = self.ranks.world_size == 1
        self.run_update = (
            CudaGraphStep(self.update_networks, device) if single_process else self.update_networks
        )

    def new_discriminator_trainer(self, network: nn.Module, suffix: str) -> DiscriminatorTrainer:
        """Put a discriminator on the device and give it an optimiser."""
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.ranks.world_size > 1:
            replace_batch_norms(network)
        adam = new_adam(network, self.config.discriminator_rate, self.config, self.device)
        return DiscriminatorTrainer(
            network, adam, self.config, autocast=self.autocast, suffix=suffix
        )

    @torch.no_grad()
    def set_condition_buffers(self, buffers: dict[str, Tensor]) -> None:
        """Store what the training slices' conditions were like in both generators."""
        for network in (self.generator, self.ema):
            for name, value in buffers.items():
                network.get_buffer(name).copy_(value)

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
        """Update discriminators, then generator; nothing here waits for the device or is random.

        Returns:
            Logits (B,) of the real slices.
        """
        config, probability = self.config, self.adaptive.probability
        labels = inputs.labels
        with self.autocast():
            fake = self.generator(inputs.z, labels, inputs.conditions)  # (B,C+1,H,W)
        fake = fake.float()

        pairs = list(zip(self.discriminators.values(), inputs.batches(), strict=True))
        shown = []  # what each discriminator thinks of its real slices, and these slices
        for trained, batch in pairs:
            loss, logits, seen = trained.loss_of_discriminator(
                batch, fake.detach(), probability, penalised=penalised, add_loss=self.add_loss
            )
            self.optimiser_step(trained.adam, loss)
            shown.append((logits, seen))

        total = torch.zeros((), device=self.device)
        for (trained, batch), (_, seen) in zip(pairs, shown, strict=True):
            loss = trained.loss_of_generator(
                batch, fake, probability, seen_real=seen, add_loss=self.add_loss
            )
            total = total + loss * (1.0 if trained is self.joint else config.unlabelled_weight)
        if config.l1:
            l1 = l1_to_label_mean(fake, labels, label_means(inputs.all_real, inputs.all_labels))
            total = total + config.l1 * l1
            self.add_loss("l1", l1)
        self.optimiser_step(self.generator_adam, total)
        return shown[0][0]

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
        rates = [(self.generator_adam, config.learning_rate)]
        rates += [(each.adam, config.discriminator_rate) for each in self.discriminators.values()]
        for adam, rate in rates:
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
        discriminators = {name: each.network for name, each in self.discriminators.items()}
        return {"generator": self.generator, **discriminators, "ema": self.ema}

    def optimisers(self) -> dict[str, torch.optim.Adam]:
        """Return all optimisers by name."""
        discriminators = {f"{name}_adam": each.adam for name, each in self.discriminators.items()}
        return {"generator_adam": self.generator_adam, **discriminators}

    def add_loss(self, name: str, value: Tensor) -> None:
        """Add a loss on the device without waiting for it."""
        self.losses[self.loss_names.index(name)].add_(value.detach())

    def mean_losses(self) -> dict[str, float]:
        """Return mean losses since the last call, over the slices of all processes."""
        means = (self.sums / max(self.steps_summed, 1)).tolist()
        self.sums.zero_()
        self.steps_summed = 0
        return dict(zip(self.loss_names, means, strict=True))


def new_adam(
    network: nn.Module, rate: float, config: TrainGan, device: torch.device
) -> torch.optim.Adam:
    """Make a network's optimiser; on a GPU a recorded step reads its rate from a tensor."""
    gpu = device.type == "cuda"
    lr = torch.tensor(rate, device=device) if gpu else rate
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam(network.parameters(), lr, betas, fused=True, capturable=gpu)


def new_discriminator(
    architecture: Architecture, device: torch.device, *, sees_mask: bool = True
) -> nn.Module:
    """Make the plain discriminator, or the one on top of the bundled pretrained network."""
    if not architecture.pretrained_features:
        return Discriminator(architecture, sees_mask=sees_mask)
    network = load_extractor(str(device)).network
    assert isinstance(network, EfficientNetLite0Features)
    return ProjectedDiscriminator(architecture, network, sees_mask=sees_mask)
