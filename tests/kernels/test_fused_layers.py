"""What follows a product of signs, against the modules of torch on its sums, bit for bit."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from draws import drawn, each
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import Accumulator, kernels
from proxconnect.deploy.fusion.steps import adds_in_one_step
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.epilogue import Bits
from proxconnect.kernels.finish import Finish
from proxconnect.kernels.fused_conv import FusedConv2d
from proxconnect.kernels.fused_linear import FusedLinear
from proxconnect.kernels.steps import Add, Affine, Clamp, Gelu, Signs, Slope, Step

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

last = torch.channels_last
ACCUMULATORS = (None, Accumulator(4, "wrap"), Accumulator(5, "saturate"), Accumulator(5, "cyclic", slope=1.5))
SHAPES = ((64, 64, 1), (130, 70, 1), (3, 9, 1), (128, 130, 2), (6, 20, 2), (70, 70, 70), (3, 6, 3), (200, 100, 100))
"""Channels in and out, and groups: of each form of a convolution."""


@dataclass
class Layer:
    """A convolution of signs, by `binary_conv2d` and by what is tested."""

    inputs: int = 130
    outputs: int = 70
    groups: int = 1
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    padding_value: int = 0
    accumulator: Accumulator | None = None
    instruction_set: str | None = None

    def __post_init__(self) -> None:
        weight = drawn(self.outputs, self.inputs // self.groups, *self.kernel, seed=1)
        self.weight = (kernels.conv_panels(pack_bits(weight), weight.shape, self.groups), weight.shape)
        self.how = (self.stride, self.padding, (1, 1), self.groups, self.padding_value)
        self.scale, self.bias = drawn(self.outputs, seed=2), drawn(self.outputs, seed=3)

    def image(self, seed: int = 0) -> Tensor:
        return drawn(2, self.inputs, 8, 9, seed=seed).contiguous(memory_format=last)

    def sums(self, x: Tensor) -> Tensor:
        """Held, but not scaled."""
        accumulator = self.accumulator
        if accumulator is not None and accumulator.overflow == "cyclic":
            accumulator = Accumulator(accumulator.bits, "wrap")
        return kernels.binary_conv2d(x, *self.weight, *self.how, accumulator=accumulator)

    def floats(self, x: Tensor) -> Tensor:
        return kernels.binary_conv2d(x, *self.weight, *self.how, self.scale, self.bias, self.accumulator)

    def fused(self, then: tuple[Step, ...] | Signs) -> FusedConv2d:
        rest = (self.scale, self.bias, self.accumulator, then, self.instruction_set)
        return FusedConv2d(*self.weight, *self.how, *rest)


def norm(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels).eval().requires_grad_(False)
    for i, values in enumerate((made.weight, made.bias, made.running_mean, made.running_var)):
        values.copy_(drawn(channels, seed=5 + i))  # type: ignore[union-attr]  # it has all of them
    made.running_var.abs_()  # type: ignore[union-attr]  # it has one
    return made


def affine_of(made: nn.BatchNorm2d) -> Affine:
    """Read off the module itself: b = norm(0), and a = norm(1) where mean and bias are 0."""
    channels = made.num_features
    bare = nn.BatchNorm2d(channels).eval().requires_grad_(False)
    bare.load_state_dict(made.state_dict())
    bare.bias.zero_()
    bare.running_mean.zero_()  # type: ignore[union-attr]  # it has one
    one = torch.ones(1, channels, 2, 2).contiguous(memory_format=last)
    return Affine(bare(one)[0, :, 0, 0], made(torch.zeros_like(one))[0, :, 0, 0])


def unpacked(bits: Tensor | Bits) -> Tensor:
    """±1 of (…, channels), NaN where the pixel or row is."""
    assert isinstance(bits, Bits)
    places = 2 ** torch.arange(8, dtype=torch.uint8)
    flat = bits.words.contiguous().view(torch.uint8).unsqueeze(-1).bitwise_and(places).ne(0).flatten(-2)
    assert not flat[..., bits.channels :].any()
    signs = torch.where(flat[..., : bits.channels], 1.0, -1.0)
    return signs if bits.nan is None else signs.masked_fill(bits.nan.bool().unsqueeze(-1), torch.nan)


def packed(x: Tensor) -> Bits:
    """The signs of (…, channels), a pixel or row of which is NaN where any channel is."""
    words = -(-x.shape[-1] // 64)
    whole = functional.pad((x >= 0).to(torch.uint8), (0, 64 * words - x.shape[-1]))
    places = 2 ** torch.arange(8, dtype=torch.uint8)
    lost = x.isnan().any(-1).to(torch.uint8)
    as_words = (whole.unflatten(-1, (-1, 8)) * places).sum(-1, dtype=torch.uint8).view(torch.int64)
    return Bits(as_words, lost if lost.any() else None, x.shape[-1])


def same(a: Tensor | Bits, b: Tensor) -> bool:
    assert isinstance(a, Tensor)
    return a.shape == b.shape and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def rounded_once(images: Tensor, step: Affine) -> Tensor:
    """What torch's batch norm answers where it multiplies and adds in one step."""
    a, b = (numbers.double()[:, None, None] for numbers in (step.a, step.b))
    return (images.double() * a + b).float()


@pytest.mark.covering
@each
@pytest.mark.parametrize(("inputs", "outputs", "groups"), SHAPES)
@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=str)
def test_a_block_equals_its_modules(
    instruction_set: str, inputs: int, outputs: int, groups: int, accumulator: Accumulator | None
) -> None:
    layer = Layer(inputs, outputs, groups, accumulator=accumulator, instruction_set=instruction_set)
    batch_norm, prelu = norm(outputs), nn.PReLU(outputs).requires_grad_(False)
    prelu.weight.copy_(drawn(outputs, seed=9))
    x = layer.image()
    x[0, 0, 1, 1] = torch.nan
    floats = layer.floats(x)
    one, two = (drawn(*floats.shape, seed=i).contiguous(memory_format=last) for i in (10, 11))
    affine = affine_of(batch_norm)
    normed = batch_norm(floats) if adds_in_one_step() else rounded_once(floats, affine)
    expected = functional.hardtanh(prelu(normed + one) + two, -0.7, 1.3)
    steps = (affine, Add(), Slope(prelu.weight), Add(), Clamp(-0.7, 1.3))
    got = layer.fused(steps)(x, one, two)
    assert isinstance(got, Tensor)
    assert got.is_contiguous(memory_format=last)
    assert same(got, expected)
    assert same(layer.fused(())(x), floats)
    assert same(layer.fused((Clamp(0.0, torch.inf),))(x), floats.relu())


def intervals(sums: Tensor, seed: int = 0) -> tuple[Signs, Tensor]:
    """Those of some sums, and the ±1 that they make of (N, H, W, channels)."""
    channels, generator = sums.shape[-1], torch.Generator().manual_seed(seed)
    count, size = 1 + channels % 3, int(sums.nan_to_num().abs().max()) + 2
    low = torch.randint(-size, size, (count, channels), generator=generator)
    width = torch.randint(0, 2 * size, (count, channels), generator=generator)
    flip = torch.randint(0, 2, (channels,), generator=generator).bool()
    low[0, 0], width[0, 0] = -(2**31), 2**32 - 1  # all of them
    width[0, channels // 2] = 0
    inside = [(sums >= first) & (sums < first + size) for first, size in zip(low, width, strict=True)]
    made = Signs(low.int(), ((width + 2**31) % 2**32 - 2**31).int(), flip)
    if count == 1:
        made = Signs(made.low[0], made.width[0], flip)
    positive = torch.stack(inside).sum(0) % 2 == 1
    return made, torch.where(positive ^ flip, 1.0, -1.0).masked_fill(sums.isnan().any(-1, keepdim=True), torch.nan)


@pytest.mark.covering
@each
@pytest.mark.parametrize(("inputs", "outputs", "groups"), SHAPES)
@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=str)
@pytest.mark.parametrize("padding_value", [0, -1])
def test_signs_are_intervals_of_the_sums(
    instruction_set: str, inputs: int, outputs: int, groups: int, accumulator: Accumulator | None, padding_value: int
) -> None:
    layer = Layer(
        inputs, outputs, groups, padding_value=padding_value, accumulator=accumulator, instruction_set=instruction_set
    )
    for has_nan in (False, True):
        x = layer.image()
        x[1, 0, 0, 3] = torch.nan if has_nan else 1.0
        signs, expected = intervals(layer.sums(x).permute(0, 2, 3, 1))
        got = layer.fused(signs)(x)
        assert isinstance(got, Bits)
        assert (got.nan is not None) == has_nan
        assert same(unpacked(got), expected)


@pytest.mark.covering
@each
@pytest.mark.parametrize(("inputs", "outputs", "groups"), SHAPES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_bits_in_are_floats_in(
    instruction_set: str, inputs: int, outputs: int, groups: int, stride: int, kernel: int
) -> None:
    for padding_value in (0, 1):
        layer = Layer(
            inputs, outputs, groups, (kernel, kernel), (stride, stride), (kernel // 2, kernel // 2), padding_value,
            instruction_set=instruction_set,
        )  # fmt: skip
        x = layer.image()
        fused = layer.fused((Clamp(0.0, 1.0),))
        assert same(fused(packed(x.permute(0, 2, 3, 1))), fused(x))
        x[1, :, 2, 2] = torch.nan
        bits = packed(x.permute(0, 2, 3, 1))
        assert same(fused(bits), fused(x))
        signs, expected = intervals(layer.sums(x).permute(0, 2, 3, 1))
        assert same(unpacked(layer.fused(signs)(bits)), expected)


@each
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rows_of_any_shape(instruction_set: str, data: st.DataObject) -> None:
    lead = data.draw(st.lists(st.integers(0, 4), max_size=3) | st.tuples(st.integers(45, 140)))
    columns, rows = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 150))
    x, weight = drawn(*lead, columns), drawn(rows, columns, seed=1)
    if x.numel() and data.draw(st.booleans()):
        x.view(-1, columns)[-1, 0] = torch.nan
    panels, scale, bias = kernels.panels(pack_bits(weight), rows, columns), drawn(rows, seed=2), drawn(rows, seed=3)
    accumulator = data.draw(st.sampled_from(ACCUMULATORS))
    affine, other = Affine(drawn(rows, seed=4), drawn(rows, seed=5)), drawn(*lead, rows, seed=6)
    fused = FusedLinear(
        panels, columns, rows, scale, bias, accumulator, (affine, Add(), Slope(affine.b)), instruction_set
    )
    floats = kernels.binary_linear(x, panels, rows, scale, bias, accumulator)
    shifted = (floats.double() * affine.a + affine.b).float() + other
    expected = torch.where(shifted > 0, shifted, affine.b * shifted)
    assert same(fused(x, other), expected)
    assert same(fused(packed(x), other), expected)
    wraps = accumulator if accumulator is None or accumulator.overflow != "cyclic" else Accumulator(5, "wrap")
    sums = kernels.binary_linear(x, panels, rows, accumulator=wraps)
    if sums.numel():
        signs, expected = intervals(sums)
        to_bits = FusedLinear(panels, columns, rows, scale, bias, accumulator, signs, instruction_set)
        assert same(unpacked(to_bits(x)), expected)
        assert same(unpacked(to_bits(packed(x))), expected)


@each
def test_gelu(instruction_set: str) -> None:
    x = torch.cat([torch.linspace(-8, 8, 100_001), torch.tensor([1e-30, -1e-30, 1e30, -1e30, torch.inf, torch.nan])])
    answer = Finish((Gelu(),), 1, instruction_set)(x[:, None])[:, 0]
    exact = functional.gelu(x.double())
    assert torch.equal(answer.isnan(), x.isnan())
    off = (answer - exact).abs() / x.abs().clamp(min=1)
    assert float(off.nan_to_num().max()) <= 3e-7
    assert same(answer, Finish((Gelu(),), 1, "portable")(x[:, None])[:, 0])


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_steps_by_themselves(instruction_set: str, data: st.DataObject) -> None:
    channels, is_image = data.draw(st.integers(1, 200)), data.draw(st.booleans())
    lead = [data.draw(st.integers(0, 3)) for _ in range(data.draw(st.integers(0, 3)))]
    shape = (2, channels, 3, data.draw(st.integers(1, 4))) if is_image else (*lead, channels)
    kind = last if is_image else torch.contiguous_format
    x, one, two = (drawn(*shape, seed=i).contiguous(memory_format=kind) for i in range(3))
    x.as_strided((x.numel(),), (1,))[:1] = torch.nan
    by_channel = (-1, 1, 1) if is_image else (-1,)
    expected, steps, others = x, [], []
    for i in range(data.draw(st.integers(0, 5))):
        a, b = drawn(channels, seed=10 + i), drawn(channels, seed=20 + i)
        match data.draw(st.sampled_from(["affine", "clamp", "slope", "add"])):
            case "affine":
                steps.append(Affine(a, b))
                exact = expected.double() * a.double().view(by_channel) + b.double().view(by_channel)
                expected = exact.float()
            case "clamp":
                steps.append(Clamp(-0.5, 0.25))
                expected = expected.clamp(-0.5, 0.25)
            case "slope":
                steps.append(Slope(a))
                expected = torch.where(expected > 0, expected, a.view(by_channel) * expected)
            case _:
                steps.append(Add())
                others.append(two if others else one)
                expected = expected + others[-1]
    before = x.clone()
    assert same(Finish(tuple(steps), channels, instruction_set)(x, *others), expected)
    assert same(x, before)
    assert Finish(tuple(steps), channels, instruction_set, in_place=True)(x, *others) is x
    assert same(x, expected)


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_convolutions_of_any_shape(instruction_set: str, data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 5, 64]))
    inner, outer = (data.draw(st.integers(1, 4 if groups > 5 else 80)) for _ in range(2))
    pairs = [data.draw(st.tuples(*[st.integers(1, most)] * 2)) for most in (3, 2, 2)]
    layer = Layer(
        groups * inner, groups * outer, groups, pairs[0], pairs[1], (pairs[2][0] - 1, pairs[2][1]),
        data.draw(st.sampled_from([-1, 0, 1])), data.draw(st.sampled_from(ACCUMULATORS)), instruction_set,
    )  # fmt: skip
    x = layer.image()
    bits, floats = packed(x.permute(0, 2, 3, 1)), layer.floats(x)
    slopes, other = drawn(layer.outputs, seed=4), drawn(*floats.shape, seed=5).contiguous(memory_format=last)
    expected = functional.prelu(floats, slopes) + other
    fused = layer.fused((Slope(slopes), Add()))
    for given_ in (x, x.contiguous(), bits):
        assert same(fused(given_, other), expected)
    signs, expected = intervals(layer.sums(x).permute(0, 2, 3, 1))
    assert same(unpacked(layer.fused(signs)(x)), expected)


@pytest.mark.covering
@each
@pytest.mark.parametrize(("inputs", "outputs", "groups"), SHAPES)
@pytest.mark.parametrize("layout", ["channels last", "planes", "a slice"])
def test_a_shift_comes_before_the_signs(
    instruction_set: str, inputs: int, outputs: int, groups: int, layout: str
) -> None:
    layer = Layer(inputs, outputs, groups, instruction_set=instruction_set)
    shift, x = drawn(inputs, seed=4), layer.image()
    x[1, 0, 2, 3], x[0, 0, 0, 0] = torch.nan, -shift[0]
    shifted = layer.fused(())(x + shift[:, None, None])
    x = {"channels last": x, "planes": x.contiguous(), "a slice": torch.cat([x, x], 3)[..., :9]}[layout]
    rest = (layer.scale, layer.bias, None, (), instruction_set, shift)
    fused = FusedConv2d(*layer.weight, *layer.how, *rest)
    torch.testing.assert_close(fused(x), shifted, rtol=0, atol=0, equal_nan=True)
    bits = packed(layer.image().movedim(1, -1))
    assert torch.equal(fused(bits), layer.fused(())(bits))  # of signs it is a part already


def test_copies_compute_the_same() -> None:
    layer = Layer()
    x, signs = layer.image(), intervals(layer.sums(layer.image()).permute(0, 2, 3, 1))[0]
    for then in ((Affine(layer.scale, layer.bias),), signs):
        fused = layer.fused(then)
        copied, (was, got) = deepcopy(fused), (fused(x), deepcopy(fused)(x))
        assert copied._panels.data_ptr() != fused._panels.data_ptr()
        assert same(unpacked(got), unpacked(was)) if isinstance(was, Bits) else same(got, was)
    finish = Finish((Slope(layer.scale),), 70)
    assert same(deepcopy(finish)(layer.scale), finish(layer.scale))


def test_no_images_and_no_rows() -> None:
    layer = Layer()
    signs, _ = intervals(layer.sums(layer.image()).permute(0, 2, 3, 1))
    none = torch.empty(0, 130, 6, 7)
    assert same(layer.fused((Clamp(0.0, 1.0),))(none), torch.empty(0, 70, 6, 7))
    assert unpacked(layer.fused(signs)(none)).shape == (0, 6, 7, 70)
    assert Finish((Clamp(0.0, 1.0),), 5)(torch.empty(0, 5)).shape == (0, 5)


def outputs_of(to_bits: FusedConv2d, to_floats: FusedConv2d, x: Tensor) -> tuple[Tensor, Tensor]:
    floats = to_floats(x)
    assert isinstance(floats, Tensor)
    return unpacked(to_bits(x)), floats


@each
def test_threads_do_not_change_it(instruction_set: str) -> None:
    """Those of the kernels, and those of Python that call one layer at once."""
    before = torch.get_num_threads()
    try:
        for inputs, groups in ((64, 1), (24, 1), (96, 96)):
            layer = Layer(inputs, 192, groups, instruction_set=instruction_set)
            images = [drawn(1, inputs, 40, 40, seed=i).contiguous(memory_format=last) for i in range(4)]
            signs, _ = intervals(layer.sums(images[0]).permute(0, 2, 3, 1))
            called = partial(outputs_of, layer.fused(signs), layer.fused((Affine(layer.scale, layer.bias),)))
            torch.set_num_threads(1)
            alone = [called(x) for x in images]
            torch.set_num_threads(3)
            with ThreadPoolExecutor(8) as pool:
                together = list(pool.map(called, images * 6))
            for i, outputs in enumerate(together):
                assert all(same(got, expected) for got, expected in zip(outputs, alone[i % 4], strict=True))
        weight = drawn(301, 1000, seed=1)
        panels, rows = kernels.panels(pack_bits(weight), 301, 1000), drawn(200, 1000)
        signs, expected = intervals(kernels.binary_linear(rows, panels, 301))
        fused = FusedLinear(panels, 1000, 301, then=signs, instruction_set=instruction_set)
        assert same(unpacked(fused(rows)), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda layer: layer.fused(())(layer.image(), layer.image()), ValueError, "add 0 other tensors; got 1"),
        (lambda layer: layer.fused((Add(),))(layer.image()), ValueError, "add 1 other tensors; got 0"),
        (lambda layer: layer.fused((Add(),))(layer.image(), drawn(2, 70, 8, 9)), ValueError, "contiguous in"),
        (lambda layer: layer.fused((Add(),))(layer.image(), drawn(2, 70, 8, 8)), ValueError, r"must be \(2, 70, 8, 9"),
        (lambda layer: layer.fused((Slope(drawn(69)),)), ValueError, "a must have 70 entries"),
        (lambda layer: layer.fused((Slope(drawn(70).double()),)), TypeError, "a must be float32"),
        (lambda layer: layer.fused(("relu",)), TypeError, "a step is Affine"),
        (lambda layer: layer.fused(())(layer.image().double()), TypeError, "input must be float32"),
        (lambda layer: layer.fused(())(drawn(2, 131, 6, 7)), ValueError, "does not fit 131 channels"),
        (lambda layer: layer.fused(())(packed(drawn(2, 6, 7, 131))), ValueError, "does not fit 131 channels"),
        (lambda layer: layer.fused(())(packed(drawn(6, 7, 130))), ValueError, "words of images are"),
        (lambda layer: layer.fused(())(packed(drawn(2, 6, 7, 130))._replace(channels=64)), ValueError, "are 1 words"),
        (
            lambda layer: layer.fused(())(packed(drawn(2, 6, 7, 130))._replace(nan=torch.zeros(2))),
            ValueError,
            "nan must be contiguous uint8",
        ),
        (lambda layer: layer.fused(())(Bits(torch.zeros(2, 6, 7, 3), None, 130)), TypeError, "words of signs must be"),
        (lambda _: Finish((), 5)(drawn(5, 6)), ValueError, r"x must be \(…, 5\)"),
        (
            lambda _: FusedLinear(kernels.panels(pack_bits(drawn(9, 70)), 9, 70), 70, 9)(drawn(3, 71)),
            ValueError,
            r"input must be \(…, 70\)",
        ),
    ],
)
def test_bad_use_is_refused(wrong: Callable[[Layer], object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        wrong(Layer())
