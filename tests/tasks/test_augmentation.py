from dataclasses import fields, replace

import pytest
import torch

from tasks.training.augmentation import CLASSICAL, PAPER, Augmentation

STILL = dict.fromkeys((field.name for field in fields(Augmentation)), 0.0)


def slices(n: int = 6, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Brains whose brightest voxels are exactly the tumour of the mask."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    brain = ((rows - 16) ** 2 + (columns - 15) ** 2 < 144).float() * 0.8 - 1
    mask = ((rows - 11) ** 2 + (columns - 20) ** 2 < 25).float()
    image = torch.where(mask > 0, 0.9, brain)
    return image.expand(n, channels, 32, 32).clone(), mask.expand(n, 1, 32, 32).clone()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augment", [CLASSICAL, PAPER, Augmentation(rotation=90, elastic=0.06)])
def test_image_and_mask_move_together(augment: Augmentation) -> None:
    geometry = {"gamma": 0.0, "gain": 0.0, "offset": 0.0, "noise": 0.0}
    images, masks = replace(augment, **geometry)(*slices(32), rng())
    bright = images > 0.35  # halfway between brain and tumour
    overlap = (bright & (masks > 0)).sum((1, 2, 3))
    union = (bright | (masks > 0)).sum((1, 2, 3))
    assert (overlap / union).min() > 0.8


def test_the_same_generator_state_gives_the_same_batch() -> None:
    first, again, other = (CLASSICAL(*slices(), rng(seed)) for seed in (4, 4, 5))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_slices_of_a_batch_are_augmented_apart_and_whatever_stands_beside_them() -> None:
    images, masks = slices(8)
    together, _ = CLASSICAL(images, masks, rng())
    assert len({image.numpy().tobytes() for image in together}) == 8
    images[4:] = -images[4:]
    beside_others, _ = CLASSICAL(images, masks, rng())
    assert torch.equal(together[:4], beside_others[:4])


def test_corners_uncovered_by_a_rotation_are_air_and_empty() -> None:
    ones = torch.ones(8, 1, 32, 32)
    images, masks = Augmentation(**(STILL | {"rotation": 45.0}))(ones, ones, rng())
    corners = torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]])
    assert (corners == -1).any() and set(masks.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_range_shape_and_type_are_kept_for_any_number_of_channels(channels: int) -> None:
    images, masks = slices(channels=channels)
    augmented, new_masks = Augmentation(gain=0.5, offset=0.3, noise=0.3)(images, masks, rng())
    assert augmented.shape == images.shape and new_masks.shape == masks.shape
    assert augmented.dtype == images.dtype and new_masks.dtype == masks.dtype
    assert augmented.min() >= -1 and augmented.max() <= 1


def test_nothing_switched_on_changes_nothing() -> None:
    images, masks = slices()
    unchanged, same_masks = Augmentation(**STILL)(images, masks, rng())
    assert torch.allclose(unchanged, images, atol=1e-5) and torch.equal(same_masks, masks)


def test_flips_are_exact_and_undo_themselves() -> None:
    images, masks = slices()
    flip = Augmentation(**(STILL | {"horizontal_flip": 1.0, "vertical_flip": 1.0}))
    flipped = flip(images, masks, rng())
    assert torch.allclose(flipped[0], images.flip(2, 3), atol=1e-5)
    back = flip(*flipped, rng(1))
    assert torch.allclose(back[0], images, atol=1e-5) and torch.equal(back[1], masks)


def test_flips_come_with_their_probability() -> None:
    images, masks = slices(2000)
    augmented, _ = Augmentation(**(STILL | {"horizontal_flip": 0.3}))(images, masks, rng())
    flipped = (augmented - images).abs().amax((1, 2, 3)) > 0.1
    assert 0.26 < flipped.float().mean() < 0.34


@pytest.mark.parametrize("name", ["scale", "stretch", "shear", "shift", "elastic", "rotation"])
def test_each_geometric_change_stays_within_its_size(name: str) -> None:
    """A tumour of 25 px^2 stays near its place: nothing moves by more than the limits allow."""
    images, masks = slices(200)
    _, moved = Augmentation(**(STILL | {name: getattr(CLASSICAL, name)}))(images, masks, rng())
    centre = torch.stack([
        (moved[:, 0] * axis).sum((1, 2)) / moved.sum((1, 2, 3))
        for axis in torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ])  # fmt: skip
    distance = (centre - torch.tensor([[11.0], [20.0]])).norm(dim=0)
    assert distance.max() > 0.3, "nothing changed"
    assert distance.max() < {"elastic": 6.0}.get(name, 3.5)
    area = moved.sum((1, 2, 3)) / masks[0].sum()
    spread = {"scale": 0.42, "stretch": 0.1, "elastic": 0.8}.get(name, 0.12)
    assert area.log().abs().max() < spread + 0.1


def test_a_tumour_is_scaled_on_average_neither_up_nor_down() -> None:
    images, masks = slices(2000)
    _, moved = Augmentation(**(STILL | {"scale": 0.2}))(images, masks, rng())
    area = moved.sum((1, 2, 3)) / masks[0].sum()
    assert abs(float(area.log().mean())) < 0.03 and area.min() < 0.75 and area.max() > 1.35


def test_intensities_change_in_tissue_and_air_stays_air() -> None:
    images, masks = slices(64)
    intensity = {name: getattr(CLASSICAL, name) for name in ("gamma", "gain", "offset", "noise")}
    changed, same_masks = Augmentation(**(STILL | intensity))(images, masks, rng())
    air = images == -1
    assert (changed[air] == -1).all() and torch.equal(same_masks, masks)
    assert (changed - images)[~air].abs().mean() > 0.05


def test_gain_and_offset_do_what_they_say() -> None:
    tissue = torch.tensor([0.0, 0.05, 0.5, 1.0]).view(1, 1, 1, 4)
    augment = Augmentation(**(STILL | {"gain": 0.5, "offset": 0.1}))
    sampled = {"gamma": 0.0, "gain": -1.0, "offset": 1.0, "noise": 0.0}
    columns = {name: torch.tensor([value]) for name, value in sampled.items()}
    changed = augment.change_intensity(tissue, columns, 0.0)
    assert torch.allclose(changed.flatten(), torch.tensor([0.0, 0.075, 0.35, 0.6]), atol=1e-6)
