"""What makes a step fast must change nothing about it, and must be missed without harm."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.dcgan import Architecture, Discriminator, minibatch_stddev
from tasks.params.train_gan import TrainGan
from tasks.train_gan.cuda_graphs import WARM_UP_STEPS, CudaGraphStep
from tasks.train_gan.distributed import Ranks
from tasks.train_gan.resume import build_architecture
from tasks.train_gan.slices_without_outlines import SlicesWithoutOutlines
from tasks.train_gan.step_inputs import StepInputs, make_step_inputs
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_data import LabelledSlices, TrainingData
from tests.tasks.train_gan_fixtures import SIZE, TINY

CPU = torch.device("cpu")
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def trainer(
    device: torch.device = CPU, *, without_outlines: bool = True, **gan: Any
) -> tuple[Trainer, TrainingData]:
    """A trainer, by default one with a second discriminator, and its slices."""
    random = torch.Generator().manual_seed(0)
    x = (2 * torch.rand(40, 2, SIZE, SIZE, generator=random) - 1).to(device)
    labels = torch.arange(40, device=device) % 2
    rows = (torch.arange(0, 40, 2, device=device), torch.arange(1, 40, 2, device=device))
    side = LabelledSlices(x, labels, rows, frozenset("abcd"))
    others = SlicesWithoutOutlines(
        x=-x[:9], unlabelled=rows[0][:3], tumors=rows[1][:3],
        unlabelled_shares=torch.tensor([0.3, 0.4], device=device), tumor_share=0.4,
        subjects=frozenset("ef"),
    )  # fmt: skip
    examples = TrainingData(side, side, without_outlines=others if without_outlines else None)
    config = TrainGan.model_validate(TINY | {"r1_every": 2, "ada_target": 0.5} | gan)
    shape = build_architecture(config, examples)
    return Trainer(config, shape, device, sees_images=without_outlines), examples


def weights(trained: Trainer) -> list[Tensor]:
    return [t for network in trained.networks().values() for t in network.state_dict().values()]


class Waits(TorchDispatchMode):
    """Notes what a host would have to wait for: a number read, or a tensor fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        if any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select")):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("gan", [{}, {"recipe": "paper"}, {"loss": "hinge", "precision": "bf16"}])
def test_a_step_copies_nothing_from_the_device(gan: dict[str, Any]) -> None:
    if gan.get("recipe") == "paper":
        gan = gan | {"r1_gamma": 0, "ada_target": 0}
    gan_trainer, examples = trainer(**gan)
    with Waits() as waits:
        for number in (1, 2, 3, 4):
            gan_trainer.step(number, examples)
    assert waits.seen == []
    with Waits() as waits:
        gan_trainer.mean_losses()
    assert waits.seen or gan_trainer.steps_summed == 0  # only here, once a row


def test_random_numbers_of_a_slice_do_not_depend_on_the_number_of_processes() -> None:
    gan_trainer, examples = trainer()
    whole = make_step_inputs(gan_trainer.config, 5, examples, Ranks())
    for rank in range(2):
        part = make_step_inputs(gan_trainer.config, 5, examples, Ranks(rank, 2))
        for name in ("real", "labels", "z", "mix", "images", "image_labels"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rank::2])
        assert torch.equal(part.augmentation, whole.augmentation[:, rank::2])
        assert torch.equal(part.all_real, whole.real)


class Tape:
    """Stands for a CUDA graph: what is recorded runs at every replay, on the recorded inputs."""

    recording: "Tape | None" = None

    def __init__(self) -> None:
        self.work: Callable[[], Tensor] | None = None

    def replay(self) -> None:
        assert self.work is not None
        self.work()


@contextmanager
def taping(tape: Tape) -> Iterator[None]:
    Tape.recording = tape
    yield
    Tape.recording = None


def taped(update: Callable[[StepInputs, bool], Tensor]) -> Callable[[StepInputs, bool], Tensor]:
    """An update that while it is recorded computes nothing, as on a GPU."""
    result = torch.zeros(TINY["batch"])

    def work(draws: StepInputs, penalised: bool) -> Tensor:
        if Tape.recording is None:
            return result.copy_(update(draws, penalised))
        Tape.recording.work = lambda: result.copy_(update(draws, penalised))
        return result

    return work


def test_replayed_steps_are_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", taping)
    plain, examples = trainer()
    gan_trainer, _ = trainer()
    replayed = CudaGraphStep(taped(gan_trainer.update_networks), CPU)
    replayed.can_record = True
    monkeypatch.setattr(replayed, "run_on_side_stream", replayed.update)
    gan_trainer.run_update = replayed
    for number in range(1, 15):
        plain.step(number, examples)
        gan_trainer.step(number, examples)
    assert set(replayed.recorded) == {False, True}
    assert replayed.plain_steps == {False: WARM_UP_STEPS + 1, True: WARM_UP_STEPS + 1}
    for expected, actual in zip(weights(plain), weights(gan_trainer), strict=True):
        assert torch.equal(expected, actual)
    assert plain.mean_losses() == gan_trainer.mean_losses()
    assert torch.equal(plain.adaptive.pack(), gan_trainer.adaptive.pack())


def test_a_step_that_cannot_be_recorded_runs_as_a_plain_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refusing:
        def __init__(self) -> None:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Refusing)
    plain, examples = trainer()
    gan_trainer, _ = trainer()
    replayed = CudaGraphStep(gan_trainer.update_networks, CPU)
    replayed.can_record = True
    monkeypatch.setattr(replayed, "run_on_side_stream", replayed.update)
    gan_trainer.run_update = replayed
    for number in range(1, 10):
        plain.step(number, examples)
        gan_trainer.step(number, examples)
    for expected, actual in zip(weights(plain), weights(gan_trainer), strict=True):
        assert torch.equal(expected, actual)
    assert not replayed.can_record
    (line,) = capsys.readouterr().err.splitlines()
    assert "no CUDA graph, plain steps: operation not permitted" in line


def test_without_a_second_discriminator_a_step_has_the_same_random_numbers() -> None:
    gan_trainer, examples = trainer()
    _, outlined_only = trainer(without_outlines=False)
    both, one = (
        make_step_inputs(gan_trainer.config, 5, slices, Ranks())
        for slices in (examples, outlined_only)
    )
    assert one.images is None and len(one.batches()) == 1 and len(both.batches()) == 2
    for name in one.field_names():
        assert torch.equal(getattr(one, name), getattr(both, name))


def test_real_and_generated_slices_scored_in_one_pass_score_as_apart() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(Architecture(size=SIZE, width=4))
    real, fake = torch.randn(2, 8, 2, SIZE, SIZE)
    labels = torch.arange(8) % 2
    apart = torch.cat([discriminator(x, labels)[0] for x in (real, fake)])
    together, _ = discriminator(torch.cat([real, fake]), labels.repeat(2), parts=2)
    torch.testing.assert_close(together, apart)
    mixed, _ = discriminator(torch.cat([real, fake]), labels.repeat(2))
    assert (mixed - apart).abs().max() > 1e-4


def test_no_group_of_the_standard_deviation_holds_slices_of_two_parts() -> None:
    alike = torch.ones(8, 3, 4, 4)
    both = torch.cat([alike, -alike])
    assert minibatch_stddev(both, 2).max() < 1e-3 < minibatch_stddev(both).max()


@with_gpu
def test_on_a_gpu_no_step_waits_for_the_device() -> None:
    gan_trainer, examples = trainer(torch.device("cuda", 0), precision="auto")
    for number in range(1, 12):
        gan_trainer.step(number, examples)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(12, 16):
            gan_trainer.step(number, examples)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@with_gpu
def test_on_a_gpu_steps_are_recorded_and_end_where_plain_ones_end() -> None:
    device = torch.device("cuda", 0)
    plain, examples = trainer(device)
    gan_trainer, _ = trainer(device)
    plain.run_update = plain.update_networks
    for number in range(1, 15):
        plain.step(number, examples)
        gan_trainer.step(number, examples)
    assert isinstance(gan_trainer.run_update, CudaGraphStep) and set(
        gan_trainer.run_update.recorded
    ) == {
        False,
        True,
    }
    for expected, actual in zip(weights(plain), weights(gan_trainer), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
