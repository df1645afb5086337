"""A tumour is found again in another brain, and nothing is said where there is none."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from tasks.measures.similarity import tumor_patch_search
from tasks.measures.similarity.tumor_patch_search import BLUR, MARGIN, nearest_patch


def brains(n: int, seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Textured slices (N,1,H,W) with a bright, uneven tumour each, and its mask (N,H,W)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    grain = size / 64
    texture = gaussian_filter(rng.normal(size=(n, size, size)), (0, 2 * grain, 2 * grain))
    images = 0.3 * texture / texture.std() - 0.3
    row, column = rng.uniform(0.35, 0.65, (2, n, 1, 1)) * size
    masks = (y - row) ** 2 + (x - column) ** 2 <= (size / 12) ** 2
    inside = gaussian_filter(rng.normal(size=(n, size, size)), (0, 1.5 * grain, 1.5 * grain))
    images = np.where(masks, 0.4 + 0.3 * inside / inside.std(), images)
    return images.clip(-1, 1).astype(np.float32)[:, None], masks.astype(np.uint8)


def transplant(donors: np.ndarray, masks: np.ndarray, hosts: np.ndarray) -> np.ndarray:
    margin = MARGIN * masks.shape[-1] // 64 + 1
    wide = binary_dilation(masks > 0, iterations=margin, axes=(1, 2))
    return np.where(wide[:, None], donors, hosts)


@pytest.mark.parametrize("size", [64, 128])
def test_a_tumour_in_another_brain_is_found(size: int) -> None:
    train, masks = brains(20, 0, size)
    hosts, _ = brains(20, 1, size)
    transplanted = np.roll(transplant(train, masks, hosts)[..., ::-1], (2, -2), (2, 3))
    marked = np.roll(masks[..., ::-1], (2, -2), (1, 2))
    nearest = nearest_patch(transplanted, marked, train, masks, max_shift=4)
    np.testing.assert_array_equal(nearest.rows, np.arange(20))
    assert np.median(nearest.scores) > 0.95
    new, where = brains(20, 2, size)
    fresh = nearest_patch(new, where, train, masks, max_shift=4)
    assert fresh.scores.max() < np.median(nearest.scores)


def test_the_score_is_the_correlation_under_the_mask() -> None:
    query, mask = brains(1, 3)
    reference, other = brains(1, 4)
    other = mask  # equal centres, so that nothing is shifted
    nearest = nearest_patch(query, mask, reference, other, max_shift=0)
    wide = binary_dilation(mask[0] > 0, iterations=MARGIN)
    a, b = (gaussian_filter(one[0, 0] + 1, BLUR) for one in (query, reference))
    plain = np.corrcoef(a[wide], b[wide])[0, 1]
    mirrored = nearest_patch(query[..., ::-1], mask[..., ::-1], reference, other, max_shift=0)
    assert max(nearest.scores[0], mirrored.scores[0]) >= plain - 1e-3
    assert nearest.scores[0] == pytest.approx(plain, abs=1e-3) or nearest.scores[0] > plain


def test_nothing_is_said_without_a_tumour_or_anyone_to_compare_with() -> None:
    images, masks = brains(4, 5)
    masks[1] = 0
    nearest = nearest_patch(
        images, masks, images, masks, max_shift=0, owners=(np.arange(4), np.arange(4))
    )
    assert np.isnan(nearest.scores[1])
    assert nearest.rows[1] == -1
    assert (nearest.rows[[0, 2, 3]] != [0, 2, 3]).all()
    alone = nearest_patch(images, masks, images, np.zeros_like(masks), max_shift=0)
    assert np.isnan(alone.scores).all()
    banned = nearest_patch(images, masks, images, masks, max_shift=0,
                           owners=(np.zeros(4, int), np.zeros(4, int)))  # fmt: skip
    assert (banned.rows == -1).all()


@pytest.mark.parametrize("max_shift", range(6))
@pytest.mark.parametrize("size", [48, 64, 128, 200, 256])
def test_every_asked_shift_is_within_reach_on_the_smaller_grid(max_shift: int, size: int) -> None:
    factor = max(size // tumor_patch_search.SIDE, 1)
    reach = tumor_patch_search.reach_on_grid(max_shift, (size, size + 8))
    assert max_shift <= reach * factor < max_shift + factor


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks = brains(9, 7)
    others, theirs = brains(8, 8)
    whole = nearest_patch(images, masks, others, theirs, max_shift=1)
    monkeypatch.setattr(tumor_patch_search, "BLOCK", 3)
    parts = nearest_patch(images, masks, others, theirs, max_shift=1, workers=2)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_allclose(whole.scores, parts.scores, atol=1e-5)
