import math

import pytest
import torch

from models.segmenter import TUMOR_SHARE, build_segmenter, dice_ce_loss


def test_equal_seeds_give_equal_weights():
    first, again = build_segmenter(1, seed=5), build_segmenter(1, seed=5)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )


def test_one_logit_a_pixel_that_starts_near_the_usual_share_of_tumour():
    network = build_segmenter(2, seed=0).eval()
    images = torch.rand(3, 2, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    logits = network(images)
    assert logits.shape == (3, 1, 64, 64)
    assert logits.detach().mean().item() == pytest.approx(
        math.log(TUMOR_SHARE / (1 - TUMOR_SHARE)), abs=1.5
    )


def test_the_loss_is_small_for_the_truth_and_large_for_its_opposite():
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, :, 4:8, 4:8] = 1
    right, wrong = (masks * 2 - 1) * 20, (1 - masks * 2) * 20
    assert dice_ce_loss(right, masks).item() < 1e-3
    assert dice_ce_loss(wrong, masks).item() > 10


def test_an_empty_prediction_has_a_larger_loss_than_an_uncertain_one():
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, :, 4:8, 4:8] = 1
    hesitant = masks * 4 - 3
    assert dice_ce_loss(hesitant, masks) < dice_ce_loss(torch.full_like(masks, -6.0), masks)
