"""Convolutions of signs by every instruction set that this machine runs, against torch's on integers, bit for bit."""

import pytest
import torch
from draws import drawn, each, signs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import Accumulator, kernels
from proxconnect.kernels.bits import pack_bits

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

PLAIN = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "padding_value": 0}


def made(weight: Tensor, groups: int = 1) -> Tensor:
    return kernels.conv_panels(pack_bits(weight), weight.shape, groups)


def convolved(x: Tensor, weight: Tensor, instruction_set: str | None = None, **options: object) -> Tensor:
    options = PLAIN | options
    panels = made(weight, options["groups"])  # type: ignore[arg-type]  # as given
    return kernels.binary_conv2d(x, panels, weight.shape, instruction_set=instruction_set, **options)  # type: ignore[arg-type]  # as given


def exact(x: Tensor, weight: Tensor, **options: object) -> Tensor:
    o = PLAIN | options
    (top, left), value = o["padding"], o["padding_value"]  # type: ignore[misc]  # two numbers
    padded = functional.pad(signs(x), (left, left, top, top), value=value)  # type: ignore[arg-type]  # a number
    return functional.conv2d(padded, signs(weight), None, o["stride"], 0, o["dilation"], o["groups"])  # type: ignore[call-overload]  # pairs


@pytest.mark.covering(strength=3)
@each
@pytest.mark.parametrize("channels", [1, 3, 63, 64, 65, 130])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"padding": (1, 1)}, {"padding": (2, 1), "padding_value": 1}, {"padding": (1, 2), "padding_value": -1},
        {"stride": (2, 1), "padding": (1, 1)}, {"dilation": (2, 2), "padding": (2, 2)}, {"padding": (4, 4)},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_sums_are_those_of_integers(
    instruction_set: str, channels: int, options: dict[str, object], memory_format: torch.memory_format
) -> None:
    x = drawn(2, channels, 7, 9).contiguous(memory_format=memory_format)
    weight = drawn(10, channels, 3, 3, seed=1)
    assert torch.equal(convolved(x, weight, instruction_set, **options), exact(x, weight, **options))


OPTIONS = [
    {"padding": (1, 1)}, {"padding": (1, 2), "padding_value": 1}, {"padding": (2, 0), "padding_value": -1},
    {"stride": (2, 3), "padding": (1, 1)}, {"stride": (1, 2), "dilation": (2, 1), "padding": (2, 1)},
    {"dilation": (1, 3), "padding": (0, 3)}, {"padding": (4, 5)},
]  # fmt: skip


@each
@pytest.mark.parametrize(("channels", "outputs"), [(16, 15), (64, 40), (80, 64), (200, 130)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_images_that_fill_tiles(
    instruction_set: str, channels: int, outputs: int, memory_format: torch.memory_format
) -> None:
    x = drawn(2, channels, 27, 23).contiguous(memory_format=memory_format)
    for kernel, options in [((3, 3), o) for o in OPTIONS] + [((1, 1), {}), ((1, 1), {"stride": (2, 1)}), ((27, 2), {})]:
        weight = drawn(outputs, channels, *kernel, seed=1)
        out = convolved(x, weight, instruction_set, **options)
        assert torch.equal(out, exact(x, weight, **options)), (kernel, options)


@pytest.mark.covering(together=("inner outer groups", "inner instruction_set", "inner kernel"))
@each
@pytest.mark.parametrize("inner", [1, 2, 3, 4, 7, 8, 16, 31, 32, 33, 63, 64, 65])
@pytest.mark.parametrize(("groups", "outer"), [(3, 1), (3, 5), (2, 40)])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 4)])
def test_groups_of_any_size(instruction_set: str, inner: int, groups: int, outer: int, kernel: tuple[int, int]) -> None:
    x, weight = drawn(2, groups * inner, 7, 11), drawn(groups * outer, inner, *kernel, seed=1)
    for options in OPTIONS:
        out = convolved(x, weight, instruction_set, groups=groups, **options)
        assert torch.equal(out, exact(x, weight, groups=groups, **options)), options


@each
def test_groups_of_several_words(instruction_set: str) -> None:
    x, weight = drawn(1, 256, 5, 6), drawn(6, 128, 3, 3, seed=1)
    out = convolved(x, weight, instruction_set, groups=2, padding=(1, 1))
    assert torch.equal(out, exact(x, weight, groups=2, padding=(1, 1)))


@pytest.mark.covering(strength=3)
@each
@pytest.mark.parametrize("channels", [1, 2, 16, 63, 64, 65, 130])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_depthwise(instruction_set: str, channels: int, multiplier: int, memory_format: torch.memory_format) -> None:
    x = drawn(2, channels, 9, 13).contiguous(memory_format=memory_format)
    for kernel, options in [((3, 3), o) for o in OPTIONS] + [((5, 2), {"padding": (2, 0)}), ((9, 13), {})]:
        weight = drawn(channels * multiplier, 1, *kernel, seed=1)
        out = convolved(x, weight, instruction_set, groups=channels, **options)
        assert torch.equal(out, exact(x, weight, groups=channels, **options)), (kernel, options)


@each
@pytest.mark.parametrize("inner", [1, 8])
def test_kernels_beyond_what_a_byte_counts(instruction_set: str, inner: int) -> None:
    x, weight = drawn(1, 3 * inner, 20, 21), drawn(3, inner, 17, 18, seed=1)
    x[:, :, 3:] = 1.0  # sums near either end
    weight[1:] = 1.0
    weight[2] = -1.0
    out = convolved(x, weight, instruction_set, groups=3, padding=(2, 2))
    assert torch.equal(out, exact(x, weight, groups=3, padding=(2, 2)))


@each
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_geometry(instruction_set: str, data: st.DataObject) -> None:
    def number(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, inner, outer = number(1, 4), number(1, 70), number(1, 20)
    kernel, stride, dilation = ((number(1, 4), number(1, 3)) for _ in range(3))
    padding = (number(0, 3), number(0, 3))
    size = [number(max(1, d * (k - 1) + 1 - 2 * p), 12) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    options = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_value": number(-1, 1),
    }  # fmt: skip
    x, weight = drawn(number(0, 2), groups * inner, *size), drawn(groups * outer, inner, *kernel, seed=1)
    assert torch.equal(convolved(x, weight, instruction_set, **options), exact(x, weight, **options))


@pytest.mark.covering
@each
@pytest.mark.parametrize(
    "accumulator", [None, Accumulator(8, "wrap"), Accumulator(6, "saturate"), Accumulator(7, "cyclic")]
)
@pytest.mark.parametrize(("channels", "outputs", "groups"), [(80, 11, 1), (128, 24, 1), (70, 70, 70), (40, 15, 5)])
def test_what_becomes_of_a_sum(
    instruction_set: str, accumulator: Accumulator | None, channels: int, outputs: int, groups: int
) -> None:
    x, weight = drawn(1, channels, 9, 9), drawn(outputs, channels // groups, 7, 7, seed=1)
    sums = exact(x, weight, groups=groups, padding=(1, 1))
    sums = sums if accumulator is None else accumulator(sums)
    for scale, bias in ((drawn(outputs, seed=2), drawn(outputs, seed=3)), (drawn(1, seed=2), None)):
        expected = sums * scale[:, None, None] + (0.0 if bias is None else bias[:, None, None])
        how = {"scale": scale, "bias": bias, "accumulator": accumulator}
        out = convolved(x, weight, instruction_set, groups=groups, padding=(1, 1), **how)
        assert torch.equal(out, expected)


@each
def test_the_sign_of_a_zero_stays(instruction_set: str) -> None:
    """Without a bias nothing is added, which would make 0.0 of -0.0."""
    x, weight, scale = drawn(1, 2, 4, 4), drawn(2, 2, 1, 1, seed=1), torch.tensor([-1.0, -0.0])
    for groups in (1, 2):
        part = weight[:, : 2 // groups]
        out = convolved(x, part, instruction_set, groups=groups, scale=scale)
        assert torch.equal(out.signbit(), (exact(x, part, groups=groups) * scale[:, None, None]).signbit())


@each
@pytest.mark.parametrize(
    ("channels", "outputs", "groups"), [(70, 3, 1), (64, 17, 1), (128, 4, 2), (70, 70, 70), (70, 14, 7), (6, 66, 2)]
)
def test_nan_reaches_what_it_reaches_in_torch(instruction_set: str, channels: int, outputs: int, groups: int) -> None:
    weight = torch.ones(outputs, channels // groups, 3, 2)
    options = {"padding": (1, 1), "stride": (1, 2), "groups": groups}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = drawn(1, channels, 9, 20).contiguous(memory_format=memory_format)
        x[0, channels - 4, 4, 5] = x[0, 0, 0, 0] = x[0, 1, 8, 19] = torch.nan
        expected = functional.conv2d(x, weight, None, (1, 2), 1, 1, groups).isnan()
        out = convolved(x, weight, instruction_set, **options)  # type: ignore[arg-type]  # as given
        assert torch.equal(out.isnan(), expected)
        assert torch.equal(out[~expected], exact(x, weight, **options)[~expected])


@each
def test_threads_do_not_change_it(instruction_set: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for inner, groups in ((64, 1), (24, 1), (1, 96), (4, 32)):
            x, weight = drawn(2, inner * groups, 40, 40), drawn(64 if groups == 1 else groups, inner, 3, 3, seed=1)
            options = {"padding": (1, 1), "groups": groups}
            assert torch.equal(convolved(x, weight, instruction_set, **options), exact(x, weight, **options))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "x",
    [
        drawn(2, 20, 16, 9)[:, :, ::2], drawn(2, 9, 8, 20).permute(0, 3, 2, 1), drawn(2, 20, 8, 9)[:, :, :, 2:],
        drawn(2, 20, 1, 9).transpose(2, 3), drawn(2, 20, 9, 1).transpose(2, 3), drawn(2, 20, 9, 7)[..., 3:4],
        drawn(2, 1, 1, 20).permute(0, 3, 1, 2), drawn(2, 20, 1, 1).expand(2, 20, 5, 6),
    ],
)  # fmt: skip
def test_any_layout(x: Tensor) -> None:
    """Strides of dimensions of size 1 say nothing, and may be any."""
    for weight, groups in ((drawn(9, 20, 3, 3, seed=1), 1), (drawn(20, 1, 3, 3, seed=1), 20)):
        options = {"padding": (1, 1), "groups": groups}
        assert torch.equal(convolved(x, weight, **options), exact(x, weight, **options))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_kernels_of_one_tap(memory_format: torch.memory_format) -> None:
    """They meet some of the pixels only."""
    x, weight = drawn(2, 70, 9, 12).contiguous(memory_format=memory_format), drawn(9, 70, 1, 1, seed=1)
    for options in ({"stride": (2, 3)}, {"stride": (2, 2), "padding": (1, 0)}, {}):
        assert torch.equal(convolved(x, weight, **options), exact(x, weight, **options))
        options, part = options | {"groups": 70}, drawn(140, 1, 1, 1, seed=1)
        assert torch.equal(convolved(x, part, **options), exact(x, part, **options))
    x[1, 3, 1, 0] = torch.nan  # met by none
    x[1, 3, 2, 0] = torch.nan
    assert convolved(x, weight, stride=(2, 3)).isnan().sum() == 9


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("panels", made(drawn(12, 20, 3, 3)))

    def forward(self, x: Tensor) -> Tensor:
        out = kernels.binary_conv2d(x - 0.5, self.panels, (12, 20, 3, 3), padding=(1, 1))  # type: ignore[arg-type]  # a buffer
        return out + 1


def test_it_compiles_and_exports_whole() -> None:
    net = Net()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = drawn(2, 20, 8, 8).contiguous(memory_format=memory_format)
        assert net(x).is_contiguous(memory_format=memory_format)
        assert torch.equal(torch.compile(net, fullgraph=True)(x), net(x))
        assert torch.equal(torch.export.export(net, (x,)).module()(x), net(x))


def test_the_operator_passes_the_checks_of_torch() -> None:
    operator = torch.ops.proxconnect.binary_conv2d.default
    pairs = ([2, 1], [1, 1], [1, 1])
    arguments = (
        drawn(2, 20, 8, 8),
        made(drawn(12, 20, 3, 3)),
        [12, 20, 3, 3],
        *pairs,
        1,
        0,
        None,
        None,
        0,
        8,
        1.0,
        None,
    )
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"input": drawn(20, 8, 8)}, ValueError, r"input must be \(N, in, H, W\)"),
        ({"input": drawn(2, 21, 8, 8)}, ValueError, "does not fit 21 channels"),
        ({"input": drawn(2, 20, 2, 8)}, ValueError, "larger than the padded input"),
        ({"input": drawn(2, 20, 8, 8).bfloat16()}, TypeError, "input must be float32"),
        ({"panels": made(drawn(13, 65, 3, 3))}, ValueError, r"panels of such a weight are \(2, 3, 8\)"),
        ({"groups": 5}, ValueError, "does not fit"),
        ({"stride": (0, 1)}, ValueError, "at least 1"),
        ({"stride": (1, 1, 1)}, ValueError, "are of height and width"),
        ({"padding": (-1, 0)}, ValueError, "padding must not be negative"),
        ({"padding_value": 2}, ValueError, "padding_value 0, 1 or -1"),
        ({"scale": drawn(5)}, ValueError, "scale must have 1 or 12 entries"),
    ],
)
def test_bad_use_is_refused(wrong: dict[str, object], error: type[Exception], said: str) -> None:
    good = {"input": drawn(2, 20, 8, 8), "panels": made(drawn(12, 20, 3, 3)), "weight_shape": (12, 20, 3, 3)}
    with pytest.raises(error, match=said):
        kernels.binary_conv2d(**(good | wrong))  # type: ignore[arg-type]  # what is refused
