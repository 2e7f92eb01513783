"""Layer norms by the kernel within graphs, beside torch's."""

from typing import Any

import pytest
import torch
from nets import Mixer, by_layers
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.kernels.library import has_vectors

WIDTH = 40

pytestmark = pytest.mark.skipif(not has_vectors(), reason="this machine lacks fast kernels")


class OfTimm(nn.LayerNorm):
    """A norm that is traced into."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class OfBuffer(nn.Module):
    """A norm without a bias, whose weight no parameter is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(width))

    def forward(self, input: Tensor) -> Tensor:
        return functional.layer_norm(input, (WIDTH,), weight=self.weight, eps=0.1)


class OfTwoDimensions(nn.Module):
    """Norms that the kernel does not compute."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((7, width))

    def forward(self, input: Tensor) -> Tensor:
        return functional.layer_norm(self.norm(input), (WIDTH,), input.mean((0, 1)))


NORMS: dict[str, tuple[Any, int]] = {
    "torch's": (nn.LayerNorm, 1),
    "without a bias": (lambda width: nn.LayerNorm(width, bias=False), 1),
    "without a weight": (lambda width: nn.LayerNorm(width, elementwise_affine=False), 1),
    "a function": (OfTimm, 1),
    "of a buffer": (OfBuffer, 1),
    "of another value": (OfTwoDimensions, 0),
}


def packed(norm: Any = nn.LayerNorm, **options: Any) -> tuple[nn.Module, Any]:
    """The binary model and its packed form."""
    net = Mixer(WIDTH)
    net.norm = norm(WIDTH)
    for parameter in net.norm.parameters():
        nn.init.normal_(parameter)
    model = pc.binarize(net, "bnn++", keep=()).eval().requires_grad_(False)
    return model, pc.pack(model, **options)


def norms(model: Any) -> int:
    return sum(region.counts.get("layer norms", 0) for region in model.packing.fusion.regions)


@pytest.mark.parametrize("name", NORMS)
@torch.no_grad()
def test_answers_as_the_model_does(name: str) -> None:
    norm, count = NORMS[name]
    model, small = packed(norm, example=torch.randn(2, 7, WIDTH))
    assert norms(small) == count
    assert f"{count} float operations by kernels" in str(small.packing) or not count
    # The last two lie otherwise, or hardly differ from their mean.
    for x in (torch.randn(3, 7, WIDTH), torch.randn(1, WIDTH, 7).mT, torch.randn(2, 7, WIDTH) * 1e-3 + 50):
        torch.testing.assert_close(small(x), model(x), rtol=1e-3, atol=1e-3)


def test_torch_computes_them_if_asked() -> None:
    assert norms(packed(floats="torch")[1]) == 0
    net = pc.binarize(Mixer(WIDTH), "bnn++", "poly", keep=()).eval().requires_grad_(False)
    assert norms(pc.pack(net)) == 0
    assert norms(pc.pack(net, floats="fast")) == 1


@pytest.mark.parametrize("norm", [nn.LayerNorm, OfTimm])
@torch.no_grad()
def test_follows_changes_of_the_layer(norm: Any) -> None:
    _, small = packed(norm)
    x = torch.randn(2, 7, WIDTH)

    def change(what: str) -> None:
        layer = small.norm
        if what == "written":
            layer.weight.mul_(2)
        elif what == "replaced":
            layer.bias = nn.Parameter(torch.randn(WIDTH), requires_grad=False)
        elif what == "eps":
            layer.eps = 10.0
        else:
            small.norm = norm(WIDTH).eval().requires_grad_(False)

    for what in ("written", "replaced", "eps", "another"):
        before = small(x)
        change(what)
        after = small(x)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, by_layers(small, x), rtol=1e-4, atol=1e-4)
    assert graph_forward(small) is not None
    assert norms(small) == 1
