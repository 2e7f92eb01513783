"""A network may use methods that a subclass of a float layer adds, after `binarize`, `pack` and `load` too."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from layer_kinds import KINDS
from proxconnect.deploy.packed import PackedLayer
from proxconnect.deploy.packed.layers.forms import PACKED
from proxconnect.layers.added_names import with_added_names


class Featured(nn.Linear):
    gain = 3.0

    def features(self) -> int:
        return self.out_features

    @property
    def share(self) -> float:
        return self.gain / self.features()

    @staticmethod
    def halved(x: Tensor) -> Tensor:
        return x / 2

    def shared(self, x: Tensor) -> Tensor:
        return self.halved(self(x)) * self.share


class Doubled(Featured):
    """It overrides forward, which a binary layer loses."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Net(nn.Module):
    def __init__(self, kind: type[Featured] = Featured) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(4, 8), kind(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner.shared(self.first(x)))


def expected(model: Net, x: Tensor) -> Tensor:
    return model.last(model.inner(model.first(x)) / 2 * 3 / 8)


@pytest.mark.parametrize("kind", [Featured, Doubled])
def test_a_network_uses_them_from_training_to_the_loaded_file(kind: type[Featured], tmp_path: Path) -> None:
    x = torch.randn(5, 4)
    model = pc.binarize(Net(kind), "bnn++", "bnn", include=Doubled, example=x)
    assert isinstance(model.inner, pc.BinaryLinear)
    assert type(model.inner).__name__ == "BinaryLinear"
    model(x).sum().backward()
    assert model.inner.latent.grad.abs().sum() > 0
    hard = model.eval()(x)
    assert torch.equal(hard, expected(model, x))
    packed = pc.pack(model, example=x)
    pc.save(packed, tmp_path / "net.safetensors")
    for shipped in (packed, pc.load(tmp_path / "net.safetensors", Net(kind)), copy.deepcopy(packed)):
        assert isinstance(shipped.inner, PackedLayer)
        assert torch.allclose(shipped(x), hard, atol=1e-6)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_and_pickles_keep_them(again) -> None:
    x = torch.randn(5, 8)
    layer = pc.BinaryLinear.convert(Featured(8, 8))
    for one in (layer, pc.pack(layer.eval())):
        copied = again(one)
        assert type(copied) is type(one)
        assert torch.equal(copied.shared(x), one.shared(x))
    with pc.hard(again(layer)) as hardened:
        assert torch.equal(hardened(x), layer(x))


def test_other_layers_keep_the_classes_of_the_library() -> None:
    for kind in KINDS.values():
        float_kind = type(kind.make(4))
        packed = PACKED[kind.form]
        for form in (kind.form, packed):
            assert with_added_names(form, float_kind) is form
        assert with_added_names(packed, kind.form) is packed
    assert with_added_names(pc.BinaryMultiheadAttention, nn.MultiheadAttention) is pc.BinaryMultiheadAttention
