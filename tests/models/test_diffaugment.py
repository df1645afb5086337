import pytest
import torch

from models.diffaugment import DiffAugment

ALL = {
    "brightness": 0.5, "contrast": 0.5, "translation": 0.25, "cutout": 0.5, "flip": True,
    "upside_down": True,
}  # fmt: skip


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stack(n: int = 8) -> torch.Tensor:
    """Slices whose mask channel is the negative of their image channel."""
    image = torch.full((n, 1, 16, 16), -1.0)
    image[:, :, 5:9, 6:11] = 0.5
    return torch.cat([image, torch.where(image > 0, 0.9, -1.0)], 1)


def test_geometry_moves_image_and_mask_together() -> None:
    moved = DiffAugment(translation=0.3, cutout=0.4, flip=True)(stack(), rng())
    assert torch.equal(moved[:, 0] > 0, moved[:, 1] > 0)
    assert not torch.equal(moved, stack())


def test_colour_leaves_the_mask_alone() -> None:
    x = stack()
    seen = DiffAugment(brightness=0.5, contrast=0.5)(x, rng())
    assert torch.equal(seen[:, 1], x[:, 1]) and not torch.allclose(seen[:, 0], x[:, 0])


@pytest.mark.parametrize(("flip", "axis"), [("flip", 2), ("upside_down", 1)])
def test_a_mirrored_slice_is_mirrored_along_one_axis(flip: str, axis: int) -> None:
    x = torch.rand(32, 2, 16, 16)
    seen = DiffAugment(**{flip: True})(x, rng())  # type: ignore[arg-type]
    mirrored = [torch.allclose(a, b.flip(axis), atol=1e-6) for a, b in zip(seen, x, strict=True)]
    kept = [torch.allclose(a, b, atol=1e-6) for a, b in zip(seen, x, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True)) and 0 < sum(mirrored) < 32


def test_an_operation_is_applied_as_often_as_its_probability_says() -> None:
    x = stack(2000)
    seen = DiffAugment(brightness=0.5)(x, rng(), torch.tensor(0.3))
    struck = (seen != x).flatten(1).any(1).float().mean()
    assert abs(float(struck) - 0.3) < 0.04


def test_a_shift_is_a_shift_and_air_comes_in() -> None:
    x = torch.rand(64, 2, 16, 16)
    moved = DiffAugment(translation=0.125)(x, rng())
    inner = (slice(None), slice(2, -2), slice(2, -2))
    for before, after in zip(x, moved, strict=True):
        twins = [
            torch.allclose(torch.roll(before, (dy, dx), (1, 2))[inner], after[inner], atol=1e-6)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
        ]
        assert any(twins)
    assert (moved == -1).any()


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_probability_of_0_or_1_switches_every_operation(probability: float) -> None:
    x = stack(32)
    seen = DiffAugment(**ALL)(x, rng(), probability)  # type: ignore[arg-type]
    assert torch.allclose(seen, x, atol=1e-6) is (probability == 0.0)


def test_gradients_reach_every_slice_and_are_the_same_twice() -> None:
    grads = []
    for _ in range(2):
        x = stack().requires_grad_()
        DiffAugment(**ALL)(x, rng()).sum().backward()  # type: ignore[arg-type]
        assert x.grad is not None and (x.grad.abs().sum((1, 2, 3)) > 0).all()
        grads.append(x.grad)
    assert torch.equal(*grads)


def test_no_operation_changes_nothing() -> None:
    assert torch.equal(DiffAugment()(stack(), rng()), stack())
