import copy

import torch
from torch import nn

from models.sync_batch_norm import SyncBatchNorm2d, mean_over_ranks, replace_batch_norms


def both() -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()))
    nn.init.normal_(plain[1][0].weight)  # type: ignore[index]
    synced = copy.deepcopy(plain)
    replace_batch_norms(synced)
    return plain, synced


def test_every_batch_norm_is_replaced_and_keeps_its_weights_and_names() -> None:
    plain, synced = both()
    kinds = [type(module) for module in synced.modules()]
    assert SyncBatchNorm2d in kinds and nn.BatchNorm2d not in kinds
    for (name, before), (same, after) in zip(
        plain.state_dict().items(), synced.state_dict().items(), strict=True
    ):
        assert name == same and torch.equal(before, after)


def test_in_one_process_it_equals_pytorchs_batch_norm_forwards_backwards_and_in_evaluation() -> (
    None
):
    plain, synced = both()
    x = 3 * torch.randn(4, 3, 8, 8) + 1
    for network in (plain, synced):
        for scale in (1.0, 2.0):
            network(scale * x).square().sum().backward()
    for expected, found in zip(plain.parameters(), synced.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-4)
    for expected, found in zip(plain.buffers(), synced.buffers(), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(synced.eval()(x), plain.eval()(x))


def test_the_mean_over_one_process_is_its_own() -> None:
    x = torch.randn(3)
    assert mean_over_ranks(x) is x
