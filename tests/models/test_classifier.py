import torch

from models.classifier import build_classifier


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (build_classifier(1, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_one_logit_a_slice_at_any_size_and_channel_count():
    network = build_classifier(2, seed=0).eval()
    for size in (32, 64, 128):
        assert network(torch.zeros(3, 2, size, size)).shape == (3, 1)


def test_the_logit_of_a_slice_does_not_depend_on_its_batch():
    """Synthetic slices in a batch must not shift what the network says of real ones."""
    network = build_classifier(1, seed=0).train()
    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with_others = network(images)[:1]
    alone = network(torch.cat([images[:1], -images[1:]]))[:1]
    assert torch.allclose(with_others, alone, atol=1e-5)
