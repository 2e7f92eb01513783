"""Convolutions of float images with signs, against torch's in float64, which holds sums of rounded images exactly."""

import pytest
import torch
from draws import drawn, each, signs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.kernels.bits import pack_bits

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

PLAIN = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
OPERATORS = [kernels.weight_only_conv2d, kernels.dynamic_int8_conv2d]


def made(weight: Tensor, groups: int = 1) -> Tensor:
    return kernels.patch_panels(pack_bits(weight), weight.shape, groups)


def require_right(x: Tensor, weight: Tensor, instruction_set: str | None = None, **options: object) -> None:
    """Exact products within what sums of floats lose, and rounded ones those of the twin, bit for bit."""
    o = PLAIN | options
    groups: int = o["groups"]  # type: ignore[assignment]  # a number
    scale, bias = drawn(len(weight), seed=2), drawn(len(weight), seed=3)
    arguments = (x, made(weight, groups), weight.shape, *o.values(), scale, bias, instruction_set)
    where = (o["stride"], o["padding"], o["dilation"], groups)
    out = kernels.weight_only_conv2d(*arguments)  # type: ignore[arg-type]  # in this order
    exact = functional.conv2d(x.double(), signs(weight).double(), None, *where)  # type: ignore[call-overload]  # pairs
    size = functional.conv2d(x.double().abs(), torch.ones_like(weight).double(), None, *where)  # type: ignore[call-overload]  # pairs
    lost = (weight[0].numel() + 4) * 2**-24 * (size * scale.abs()[:, None, None] + bias.abs()[:, None, None])
    assert out.shape == exact.shape
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert ((out - (exact * scale[:, None, None] + bias[:, None, None])).abs() <= lost).all()
    out = kernels.dynamic_int8_conv2d(*arguments)  # type: ignore[arg-type]  # in this order
    assert torch.equal(out, twin(x, weight, scale, bias, where))


def twin(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, where: tuple[object, ...]) -> Tensor:
    """The convolution of images that are rounded by one step each, without the pixels that a 1 × 1 kernel skips."""
    stride, padding, *rest = where
    if weight.shape[2:] == (1, 1) and padding == (0, 0):
        x, stride = x[:, :, :: stride[0], :: stride[1]], 1  # type: ignore[index]  # a pair
    most = x.abs().amax((1, 2, 3), keepdim=True).clamp(min=2.0**-100)
    whole, step = torch.round(x * (torch.full_like(most, 127) / most)), most / torch.full_like(most, 127)
    sums = functional.conv2d(whole.double(), signs(weight).double(), None, stride, padding, *rest)  # type: ignore[call-overload]  # pairs
    made: Tensor = sums.float() * step * scale[:, None, None] + bias[:, None, None]
    return made


@pytest.mark.covering(strength=3)
@each
@pytest.mark.parametrize("channels", [1, 3, 8, 32, 65])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"padding": (1, 1)}, {"stride": (2, 1), "padding": (1, 1)}, {"dilation": (2, 2), "padding": (2, 2)},
        {"padding": (4, 4)},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_convolutions(
    instruction_set: str, channels: int, options: dict[str, object], memory_format: torch.memory_format
) -> None:
    x = drawn(2, channels, 7, 9).contiguous(memory_format=memory_format)
    require_right(x, drawn(10, channels, 3, 3, seed=1), instruction_set, **options)


@each
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_kernels_of_one_pixel(instruction_set: str, memory_format: torch.memory_format) -> None:
    x, weight = drawn(2, 12, 13, 11).contiguous(memory_format=memory_format), drawn(20, 6, 1, 1, seed=1)
    require_right(x, weight, instruction_set, groups=2)
    require_right(x, weight, instruction_set, groups=2, padding=(1, 0))
    x[:, :, 1] = 50.0  # which a stride skips
    for padding in ((0, 0), (0, 1)):
        require_right(x, drawn(20, 12, 1, 1, seed=1), instruction_set, stride=(2, 3), padding=padding)


@each
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_geometry(instruction_set: str, data: st.DataObject) -> None:
    def number(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, inner, outer = number(1, 4), number(1, 20), number(1, 20)
    kernel, stride, dilation = ((number(1, 4), number(1, 3)) for _ in range(3))
    padding = (number(0, 3), number(0, 3))
    size = [number(max(1, d * (k - 1) + 1 - 2 * p), 13) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    x, weight = drawn(number(1, 2), groups * inner, *size), drawn(groups * outer, inner, *kernel, seed=1)
    require_right(x, weight, instruction_set, stride=stride, padding=padding, dilation=dilation, groups=groups)


@pytest.mark.parametrize(
    "x",
    [
        drawn(2, 20, 16, 9)[:, :, ::2], drawn(2, 9, 8, 20).permute(0, 3, 2, 1), drawn(2, 20, 8, 9)[:, :, :, 2:],
        drawn(2, 20, 1, 9).transpose(2, 3), drawn(2, 20, 9, 7)[..., 3:4], drawn(2, 1, 1, 20).permute(0, 3, 1, 2),
        drawn(2, 20, 1, 1).expand(2, 20, 5, 6), drawn(2, 1, 5, 6).expand(2, 20, 5, 6), drawn(0, 20, 5, 6),
    ],
)  # fmt: skip
def test_any_layout(x: Tensor) -> None:
    weight = drawn(9, 20, 3, 3, seed=1)
    if len(x) > 0:
        require_right(x, weight, padding=(1, 1))
    assert kernels.weight_only_conv2d(x, made(weight), weight.shape, padding=(1, 1)).shape == (len(x), 9, *x.shape[2:])


@each
def test_nan_reaches_what_it_reaches_in_torch(instruction_set: str) -> None:
    x, weight = drawn(1, 7, 9, 20), drawn(3, 7, 3, 3)
    for what in (torch.nan, torch.inf):
        x[0, 5, 4, 5] = what
        expected = functional.conv2d(x, signs(weight), padding=1)
        out = kernels.weight_only_conv2d(x, made(weight), weight.shape, padding=(1, 1), instruction_set=instruction_set)
        assert torch.equal(out.isfinite(), expected.isfinite())
        assert torch.equal(out.isnan(), expected.isnan())
        out = kernels.dynamic_int8_conv2d(
            x, made(weight), weight.shape, padding=(1, 1), instruction_set=instruction_set
        )
        assert out.isnan().all()


@each
def test_threads_do_not_change_it(instruction_set: str) -> None:
    x, weight, before = drawn(2, 64, 20, 20), drawn(150, 64, 3, 3, seed=1), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        require_right(x, weight, instruction_set, padding=(1, 1))
    finally:
        torch.set_num_threads(before)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("panels", made(drawn(12, 20, 3, 3)))

    def forward(self, x: Tensor) -> Tensor:
        y = kernels.weight_only_conv2d(x - 0.5, self.panels, (12, 20, 3, 3), padding=(1, 1))  # type: ignore[arg-type]  # a buffer
        return y + kernels.dynamic_int8_conv2d(x, self.panels, (12, 20, 3, 3), padding=(1, 1))  # type: ignore[arg-type]  # a buffer


def test_they_compile_and_export_whole() -> None:
    net, x = Net(), drawn(2, 20, 8, 8)
    assert torch.equal(torch.compile(net, fullgraph=True)(x), net(x))
    assert torch.equal(torch.export.export(net, (x,)).module()(x), net(x))


@pytest.mark.parametrize("name", ["weight_only_conv2d", "dynamic_int8_conv2d"])
def test_the_operators_pass_the_checks_of_torch(name: str) -> None:
    operator = getattr(torch.ops.proxconnect, name).default
    pairs = ([2, 1], [1, 1], [1, 1])
    arguments = (drawn(2, 20, 8, 8), made(drawn(12, 20, 3, 3)), [12, 20, 3, 3], *pairs, 1, None, None, None)
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: str(operator.__name__))
@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"input": drawn(20, 8, 8)}, ValueError, r"input must be \(N, in, H, W\)"),
        ({"input": drawn(2, 21, 8, 8)}, ValueError, "does not fit 21 channels"),
        ({"input": drawn(2, 20, 2, 8)}, ValueError, "larger than the padded input"),
        ({"input": drawn(2, 20, 8, 8).bfloat16()}, TypeError, "input must be float32"),
        ({"panels": kernels.patch_panels(pack_bits(drawn(12, 65, 3, 3)), (12, 65, 3, 3))}, ValueError, "patch_panels"),
        ({"groups": 5}, ValueError, "does not fit"),
        ({"stride": (0, 1)}, ValueError, "at least 1"),
        ({"dilation": (1,)}, ValueError, "are of height and width"),
        ({"padding": (-1, 0)}, ValueError, "padding must not be negative"),
        ({"scale": drawn(5)}, ValueError, "scale must have 1 or 12 entries"),
    ],
)
def test_bad_use_is_refused(operator: object, wrong: dict[str, object], error: type[Exception], said: str) -> None:
    good = {"input": drawn(2, 20, 8, 8), "panels": made(drawn(12, 20, 3, 3)), "weight_shape": (12, 20, 3, 3)}
    with pytest.raises(error, match=said):
        operator(**(good | wrong))  # type: ignore[operator]  # one of the two


@pytest.mark.parametrize(("shape", "groups"), [((12, 20, 3), 1), ((12, 20, 3, 3), 5), ((12, 20, 3, 3), 0)])
def test_panels_of_other_weights_are_refused(shape: tuple[int, ...], groups: int) -> None:
    with pytest.raises(ValueError, match="out a multiple of"):
        kernels.patch_panels(pack_bits(drawn(12, 20, 3, 3)), shape, groups)
