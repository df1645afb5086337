"""Weights by path: the right network is built and hashed, a wrong file is one clear line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet50
from torchvision.models.inception import Inception3

from tasks.measures.features.external_feature_networks import load_external_network
from tasks.measures.features.feature_extraction import features
from tasks.stage.errors import InputError

X = np.random.default_rng(0).uniform(-1, 1, (2, 1, 40, 40)).astype(np.float32)


def inception(classes: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = Inception3(num_classes=classes, aux_logits=False, init_weights=False).state_dict()
    return {name: value.half() if value.is_floating_point() else value for name, value in
            state.items()}  # fmt: skip


def test_the_original_inception_weights_give_fid_features(tmp_path: Path) -> None:
    save_file(inception(1008), tmp_path / "fid.safetensors")
    extractor = load_external_network("inception", tmp_path / "fid.safetensors", device="cpu")
    assert extractor.name == "FID"
    assert len(extractor.sha256) == 64
    rows = features(X, extractor=extractor)
    assert rows.shape == (2, 2048)
    assert np.isfinite(rows).all() and rows.std() > 0


@pytest.mark.verify
def test_other_inception_weights_are_not_called_fid(tmp_path: Path) -> None:
    torch.save(inception(1000), tmp_path / "torchvision.pth")
    extractor = load_external_network("inception", tmp_path / "torchvision.pth", device="cpu")
    assert extractor.name == "FD(inception v3 of torchvision)"
    assert features(X, extractor=extractor).shape == (2, 2048)


@pytest.mark.verify
def test_both_kinds_of_radimagenet_weights_build_the_same_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = resnet50(weights=None).state_dict()
    order = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    numbered = {
        f"backbone.{order.index(name.split('.')[0])}.{name.partition('.')[2]}": value
        for name, value in state.items()
        if not name.startswith("fc")
    }
    plain = {name: value for name, value in state.items() if not name.startswith("fc")}
    rows = []
    for index, weights in enumerate((plain, numbered)):
        torch.save(weights, tmp_path / f"{index}.pt")
        extractor = load_external_network("radimagenet", tmp_path / f"{index}.pt", device="cpu")
        assert extractor.name == "FD(RadImageNet ResNet-50)"
        rows.append(next(iter(extractor.network.network.children())).weight)  # type: ignore[union-attr]
        assert features(X, extractor=extractor).shape == (2, 2048)
    assert torch.equal(rows[0], rows[1])


def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save(torch.nn.ReLU(), tmp_path / "module.pth")
    torch.save({"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "shape.pth")
    for name, word in (
        ("nowhere.pth", "no file"),
        ("text.pth", "text.pth"),
        ("text.safetensors", "cannot be read"),
        ("list.pth", "holds list"),
        ("module.pth", "more than tensors"),
        ("other.pth", "conv1.weight"),
        ("shape.pth", "shape.pth"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            load_external_network("radimagenet", tmp_path / name, device="cpu")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"fc\.weight"):
        load_external_network("inception", tmp_path / "other.pth", device="cpu")
