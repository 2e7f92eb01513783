"""Scales of groups of inputs in 16 bits multiply like the same scales as floats, bit by bit."""

from collections.abc import Callable, Iterator

import pytest
import torch
from draws import drawn, each
from torch import Tensor

import proxconnect as pc
from proxconnect import kernels
from proxconnect.kernels.bits import pack_bits
from proxconnect.layers import BinaryLinear

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

OPERATORS = (kernels.weight_only_linear, kernels.dynamic_int8_linear)
SHAPES = (1, 64, 64), (8, 128, 64), (33, 128, 128), (129, 384, 192), (70, 4160, 64), (40, 4864, 128), (9, 4096, 1024)
"""Outputs, inputs, and those of a group: within what the kernels take at once, across it, and beyond it."""
ALL_HALVES = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
SPECIAL = torch.tensor([torch.inf, -torch.inf, torch.nan, 65504.0, 2.0**-24, 0.0])


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def made(weight: Tensor) -> Tensor:
    return kernels.panels(pack_bits(weight), *weight.shape)


def require_same(a: Tensor, b: Tensor) -> None:
    assert torch.equal(a.isnan(), b.isnan())
    assert torch.equal(a.nan_to_num().view(torch.int32), b.nan_to_num().view(torch.int32))


@pytest.mark.covering
@each
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("rows", "columns", "size"), SHAPES)
def test_16_bits_multiply_like_floats(
    instruction_set: str, operator: Callable[..., Tensor], rows: int, columns: int, size: int, threads: int
) -> None:
    weight, scale, bias = drawn(rows, columns, seed=1), drawn(rows, columns // size, seed=2).half(), drawn(rows, seed=3)
    scale.view(-1)[: SPECIAL.numel()] = SPECIAL[: scale.numel()]
    halves, panels = kernels.group_scales(scale), made(weight)
    assert halves.dtype is torch.float16
    for batch in (1, 2, 3, 5, 8, 17, 33):
        x = drawn(batch, columns)
        by_halves = operator(x, panels, rows, halves, bias, instruction_set)
        require_same(by_halves, operator(x, panels, rows, halves.float(), bias, instruction_set))


@each
@pytest.mark.parametrize("batch", [1, 2, 6, 17, 33])
def test_every_number_of_16_bits_is_read_exactly(instruction_set: str, batch: int) -> None:
    """Each output is 1 times its scale."""
    x = torch.zeros(batch, 64)
    x[:, 5] = 1
    scales = kernels.group_scales(ALL_HALVES[:, None])
    out = kernels.weight_only_linear(x, made(torch.ones(2**16, 64)), 2**16, scales, None, instruction_set)
    assert torch.equal(out.isnan(), ALL_HALVES.isnan().expand(batch, -1))
    assert torch.equal(out.nan_to_num(), ALL_HALVES.float().nan_to_num().expand(batch, -1))


@pytest.mark.parametrize("inexact", [1 + 2.0**-11, 65505.0, 2.0**-25, 1e-42, -0.1])
def test_scales_become_16_bits_only_if_these_hold_all_of_them(inexact: float) -> None:
    scale = ALL_HALVES[:1024].reshape(256, 4).float()
    assert kernels.group_scales(scale).dtype is torch.float16
    scale[200, 3] = inexact
    kept = kernels.group_scales(scale)
    assert kept.dtype is torch.float32
    assert kept[200 // 32, 3, 200 % 32] == inexact


def test_scales_lie_in_the_order_of_the_weight() -> None:
    scale = drawn(70, 5)
    laid_out = kernels.group_scales(scale)
    assert laid_out.shape == (3, 5, 32)
    assert torch.equal(laid_out.transpose(1, 2).flatten(0, 1)[:70], scale)


def test_an_exported_layer_gives_the_same() -> None:
    """While torch exports it, the scales are floats, whose values are not known."""
    layer = BinaryLinear(128, 40, group_size=64)
    packed = pc.pack(layer)
    with torch.no_grad():
        packed.scale.copy_(packed.scale.half())
    x = drawn(3, 128)
    assert packed.kernel_scale().dtype is torch.float16
    assert torch.equal(torch.export.export(packed, (x,)).module()(x), packed(x))
    assert torch.equal(torch.compile(packed, fullgraph=True, backend="aot_eager")(x), packed(x))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("scale", "error", "said"),
    [
        (torch.ones(1, 2, 32, dtype=torch.float64), TypeError, "scale must be float32 on the CPU"),
        (torch.ones(1, 3, 32), ValueError, "make them by proxconnect.kernels.group_scales"),
        (torch.ones(1, 2, 64, dtype=torch.float16)[..., ::2], ValueError, "must be contiguous"),
        (torch.ones(20, dtype=torch.float16), TypeError, "scale must be float32"),
    ],
)
def test_other_scales_are_refused(
    operator: Callable[..., Tensor], scale: Tensor, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        operator(drawn(3, 128), made(drawn(20, 128)), 20, scale)
