"""Agreement of masks with a segmenter: Dice of whole sets, pictures of any size."""

import numpy as np
import pytest

from tasks.measures.anatomy.mask_agreement import pad_to_multiple, set_dice


def test_dice_is_one_for_all_pixels_of_a_set() -> None:
    areas = np.array([[2 * 10, 10 + 20], [0, 5], [np.nan, np.nan]])  # the last has no mask
    assert set_dice(areas) == pytest.approx(20 / 35)
    assert np.isnan(set_dice(np.zeros((3, 2))))


def test_odd_sizes_are_padded_with_air_right_and_below() -> None:
    x = pad_to_multiple(np.ones((2, 1, 65, 62), dtype=np.float32), -1)
    assert x.shape == (2, 1, 68, 64)
    assert (x[..., :65, :62] == 1).all() and (x[..., 65:, :] == -1).all()
    assert pad_to_multiple(x, -1).shape == x.shape


@pytest.mark.verify
def test_a_segmenter_finds_what_it_was_shown_and_doubts_exchanged_masks() -> None:
    import pandas as pd

    from tasks.common.slice_set import SliceSet
    from tasks.measures.anatomy.mask_agreement import mask_overlap, train_segmenter

    rng = np.random.default_rng(0)
    images = rng.normal(-0.2, 0.1, (60, 1, 34, 34)).astype(np.float32)
    masks = np.zeros((60, 34, 34), dtype=np.uint8)
    for image, mask in zip(images[:40], masks[:40], strict=True):
        row, column = rng.integers(2, 24, 2)
        mask[row : row + 8, column : column + 8] = 1
        image[0][mask > 0] += 0.8
    table = pd.DataFrame({"row": range(60)})
    network = train_segmenter(SliceSet(images, masks, table), steps=60, seed=0)
    assert network is not None
    assert set_dice(mask_overlap(network, images, masks, device="cpu")) > 0.8
    assert set_dice(mask_overlap(network, images, np.roll(masks, 1, axis=0), device="cpu")) < 0.4
    assert train_segmenter(SliceSet(images, masks * 0, table), steps=1, seed=0) is None
