import pytest
import torch

from tasks.downstream.classical_augmentation import ClassicalAugmentation, jitter_intensity

STILL = {"horizontal": 0.0, "vertical": 0.0, "degrees": 0.0, "contrast": 0.0, "brightness": 0.0}


def slices(n: int = 6, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Brains whose brightest voxels are exactly the tumour of the mask."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    brain = ((rows - 16) ** 2 + (columns - 15) ** 2 < 144).float() * 0.8 - 1
    mask = ((rows - 11) ** 2 + (columns - 20) ** 2 < 25).float()
    image = torch.where(mask > 0, 0.9, brain)
    return image.expand(n, channels, 32, 32).clone(), mask.expand(n, 1, 32, 32).clone()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_image_and_mask_move_together() -> None:
    images, masks = ClassicalAugmentation(degrees=90)(*slices(), rng())
    bright = images > 0.6
    overlap = (bright & (masks > 0)).sum((1, 2, 3))
    union = (bright | (masks > 0)).sum((1, 2, 3))
    assert (overlap / union).min() > 0.7


def test_the_same_generator_state_gives_the_same_batch() -> None:
    first = ClassicalAugmentation()(*slices(), rng(4))
    again = ClassicalAugmentation()(*slices(), rng(4))
    other = ClassicalAugmentation()(*slices(), rng(5))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_slices_of_a_batch_are_drawn_apart() -> None:
    images, _ = ClassicalAugmentation()(*slices(8), rng())
    assert len({image.numpy().tobytes() for image in images}) == 8


def test_corners_uncovered_by_a_rotation_are_air_and_empty() -> None:
    images, masks = ClassicalAugmentation(degrees=45)(
        torch.ones(8, 1, 32, 32), torch.ones(8, 1, 32, 32), rng()
    )
    corners = torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]])
    assert (corners == -1).any() and set(masks.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_range_shape_and_type_are_kept_for_any_number_of_channels(channels: int) -> None:
    images, masks = slices(channels=channels)
    moved, moved_masks = ClassicalAugmentation(contrast=0.5, brightness=0.3)(images, masks, rng())
    assert moved.shape == images.shape and moved_masks.shape == masks.shape
    assert moved.dtype == images.dtype and moved.min() >= -1 and moved.max() <= 1


def test_nothing_switched_on_changes_nothing() -> None:
    images, masks = slices()
    still, still_masks = ClassicalAugmentation(**STILL)(images, masks, rng())
    assert torch.allclose(still, images, atol=1e-6) and torch.equal(still_masks, masks)


def test_flips_are_exact_and_undo_themselves() -> None:
    images, masks = slices()
    flip = ClassicalAugmentation(**(STILL | {"horizontal": 1.0, "vertical": 1.0}))
    once = flip(images, masks, rng())
    assert torch.allclose(once[0], images.flip(2, 3), atol=1e-6)
    twice = flip(*once, rng(1))
    assert torch.allclose(twice[0], images, atol=1e-6) and torch.equal(twice[1], masks)


def test_jitter_leaves_air_and_moves_tissue_as_said() -> None:
    image = torch.tensor([[-1.0, 0.0, 1.0]])
    assert torch.allclose(
        jitter_intensity(image, gain=0.5, offset=0.1), torch.tensor([[-1.0, -0.3, 0.2]]), atol=1e-6
    )
