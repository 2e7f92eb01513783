"""What is added to products in other shapes and dtypes than theirs, and norms of rows in another dimension."""

import pytest
import torch
from nets import binary, by_layers, folds_norms, image
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.fusion.graph_modules import graph_forward

pytestmark = [
    pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built"),
    pytest.mark.filterwarnings("error::UserWarning"),
]


class Adds(nn.Module):
    """A convolution, whose input is bits or floats, and an addition."""

    def __init__(self, is_of_bits: bool) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.inner = nn.Conv2d(8, 8, 3, padding=1) if is_of_bits else nn.Identity()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return self.last((self.conv(self.inner(self.stem(image))) + other).relu())


def same(model: nn.Module, *inputs: Tensor) -> None:
    torch.testing.assert_close(model(*inputs), by_layers(model, *inputs), equal_nan=True)
    fused = graph_forward(model)
    assert fused is not None
    assert not fused._is_given_up


@pytest.mark.parametrize(("remainder", "keep"), [("float", ("stem", "last")), ("int8", ("stem", "conv"))])
@pytest.mark.parametrize("is_of_bits", [False, True])
def test_what_is_added_is_broadcast_as_by_torch(is_of_bits, remainder, keep):
    model, x = pc.pack(binary(Adds(is_of_bits), keep=keep), remainder=remainder), image(batch=1)
    for nan in (False, True):
        x[:, :, 4, 4] = torch.nan if nan else 0.5
        for shape in [(1, 8, 10, 10), (8, 1, 1), (1, 8, 1, 1), (10,), (2, 8, 10, 10), ()]:
            same(model, x, torch.randn(shape))
        same(model, x.expand(3, -1, -1, -1), torch.randn(1, 8, 10, 10))
        same(model, x, torch.randn(1, 8, 10, 10).half())
        same(model, x, 2.5)
    with pytest.raises(RuntimeError, match="must match the size"):  # as torch says it
        model(x, torch.randn(7, 1, 1))


class AddsTwice(Adds):
    """An addition that multiplies what it adds."""

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return self.last(torch.add(self.conv(self.inner(self.stem(image))), other, alpha=2).relu())


def test_an_addition_with_a_factor_keeps_it():
    same(pc.pack(binary(AddsTwice(is_of_bits=True), keep=("stem", "last"))), image(batch=1), torch.randn(1, 8, 10, 10))


class Norms(nn.Module):
    """Rows with their channels in the dimension before the last, as batch norm takes them."""

    def __init__(self, by_channel: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.third, self.head = (nn.Linear(8, 8) for _ in range(4))
        self.by_channel = by_channel

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.third(self.by_channel(self.second(self.first(rows)))))


@pytest.mark.parametrize("activations", [None, "poly"])
@pytest.mark.parametrize("build", [nn.BatchNorm1d, lambda count: nn.PReLU(count, init=-1.0)])
@pytest.mark.parametrize("count", [5, 8])
def test_norms_of_rows_in_another_dimension(build, count, activations):
    model = pc.pack(
        pc.reestimate_batchnorm(binary(Norms(build(count)), activations=activations), [torch.randn(3, count, 8)])
    )
    if count == 8:
        same(model, torch.randn(6, 8))
    same(model, torch.randn(3, count, 8))


@folds_norms
def test_two_norms_of_floats_are_one_pass():
    stem = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.BatchNorm2d(16), nn.Hardtanh()]
    model = pc.pack(binary(nn.Sequential(*stem, nn.Conv2d(16, 8, 3), nn.Conv2d(8, 8, 3))))
    assert model.packing.fusion.regions[0].counts["norms of floats"] == 1
    same(model, image())


def test_tensors_that_are_negated_when_they_are_read():
    model, x = pc.pack(binary(Adds(False)), remainder="int8"), image().contiguous()
    lazy = torch.complex(x, -x).conj().imag
    assert lazy.is_neg()
    same(model, lazy, torch.zeros(1, 8, 10, 10))
