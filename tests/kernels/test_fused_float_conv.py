"""Float convolutions, in fixed point with AMX, with what stands around them in one pass, against float64 and torch."""

import copy
import pickle
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.kernels import fused_conv
from proxconnect.kernels.fused_image_conv import FusedFloatConv2d, can_convolve_floats
from proxconnect.kernels.library import loaded
from proxconnect.kernels.steps import Add, Affine, Clamp, Slope

pytestmark = pytest.mark.skipif(not kernels.has_float_kernels(), reason="this machine has no such kernels")

SETS = [name for name in kernels.instruction_sets() if name in ("avx2", "avx512", "amx")]
HAS_DIGITS = "amx" in SETS
takes_digits = pytest.mark.skipif(not HAS_DIGITS, reason="this machine lacks AMX")
STEM = (2, 2), (3, 3), (1, 1)


def digits(whole: Tensor) -> list[Tensor]:
    """d2, d1 and d0 of integers."""
    low = (whole + 128) % 256 - 128
    rest = (whole - low) // 256
    middle = (rest + 128) % 256 - 128
    return [((rest - middle) // 256).double(), middle.double(), low.double()]


def twin(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
    """The same whole numbers, whose products of digits are summed in float64, all but those of both lowest digits."""
    answers = []
    step = weight.double().abs().flatten(1).amax(1).clamp(min=2.0**-60).view(-1, 1, 1, 1) / 0x7F7F7F
    of_weight = digits((weight.double() / step).round().long())
    for image in x:
        largest = image.abs().max()
        whole = torch.round(image * (torch.tensor(8355710.0) / largest)) if largest else torch.zeros_like(image)
        of_image = digits(whole.long())
        total = torch.zeros((), dtype=torch.float64)
        for i, a in enumerate(of_image):
            for j, b in enumerate(of_weight):
                if i + j < 4:
                    total = total + functional.conv2d(a[None], b, None, *geometry) * 2.0 ** (32 - 8 * (i + j))
        answers.append(total[0] * largest.double() / 8355710 * step[:, 0])
    return torch.stack(answers) + bias.double().view(-1, 1, 1)


@given(
    channels=st.integers(1, 40), outputs=st.integers(1, 50), kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.integers(1, 3), padding=st.integers(0, 3), dilation=st.integers(1, 2), has_planes=st.booleans(),
    size=st.tuples(st.integers(7, 24), st.integers(7, 40)), threads=st.integers(1, 2),
    instruction_set=st.sampled_from(SETS or ["none"]),
)  # fmt: skip
def test_it_equals_sums_of_digits_or_doubles(
    channels: int, outputs: int, kernel: tuple[int, int], stride: int, padding: int, dilation: int, has_planes: bool,
    size: tuple[int, int], threads: int, instruction_set: str,
) -> None:  # fmt: skip
    memory_format = torch.contiguous_format if has_planes else torch.channels_last
    x = torch.randn(2, channels, *size).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(outputs, channels, *kernel), torch.randn(outputs)
    geometry = (stride, stride), (padding, 0), (1, dilation)
    torch.set_num_threads(threads)
    try:
        with patch.object(fused_conv, "loaded", lambda _: loaded(instruction_set)):
            answer = FusedFloatConv2d(weight, *geometry, bias)(x)
    finally:
        torch.set_num_threads(1)
    assert answer is not None
    assert answer.is_contiguous(memory_format=torch.channels_last)
    if instruction_set == "amx":
        expected = twin(x, weight, bias, *geometry)
        assert (answer.double() - expected).abs().max() <= 2.0**-21 * expected.abs().max()
        return
    images = x.double(), weight.double(), bias.double()
    off = (answer.double() - functional.conv2d(*images, *geometry)).abs()
    assert (off <= 2.0**-21 * functional.conv2d(*(tensor.abs() for tensor in images), *geometry)).all()


@pytest.mark.parametrize(
    ("shape", "size", "geometry"),
    [
        ((64, 3, 7, 7), 64, STEM),
        ((128, 64, 1, 1), 14, ((1, 1), (0, 0), (1, 1))),
        ((40, 24, 3, 3), 20, ((1, 1), (1, 1), (2, 2))),
    ],
)
@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
def test_it_is_about_as_near_as_torch(shape: Any, size: int, geometry: Any, draw: Any) -> None:
    x, weight = draw(2, shape[1], size, size), torch.randn(shape) / 8
    exact = functional.conv2d(x.double(), weight.double(), None, *geometry)
    answer = FusedFloatConv2d(weight, *geometry)(x)
    assert answer is not None
    mine, torchs = (
        float((y.double() - exact).square().mean().sqrt())
        for y in (answer, functional.conv2d(x, weight, None, *geometry))
    )
    assert mine <= 2 * torchs


@pytest.mark.covering(strength=3)
@pytest.mark.parametrize("has_planes", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("window", [None, nn.AvgPool2d(2), nn.AvgPool2d((1, 3), ceil_mode=True)])
@pytest.mark.parametrize("pool", [None, nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2)])
def test_means_steps_and_pools(has_planes: bool, threads: int, window: Any, pool: Any) -> None:
    memory_format = torch.contiguous_format if has_planes else torch.channels_last
    x = torch.randn(2, 3, 65, 96).contiguous(memory_format=memory_format)
    weight, a, b = torch.randn(37, 3, 5, 5), torch.randn(37), torch.randn(37)
    geometry = (2, 2), (2, 2), (1, 1)
    expected = functional.conv2d(x if window is None else window(x), weight, None, *geometry)
    others = () if pool is not None else (torch.randn_like(expected).contiguous(memory_format=torch.channels_last),)
    many = (Clamp(-3.0, 2.0), *([Add()] if others else []), Slope(a))
    for steps in ((Affine(a, b),), (Affine(a, b), *many)):
        stepped = expected * a.view(-1, 1, 1) + b.view(-1, 1, 1)
        if len(steps) > 1:
            stepped = stepped.clamp(-3, 2)
            stepped = stepped + others[0] if others else stepped
            stepped = torch.where(stepped > 0, stepped, stepped * a.view(-1, 1, 1))
        fused = FusedFloatConv2d(weight, *geometry, None, steps, window, pool)
        torch.set_num_threads(threads)
        try:
            answer = fused(x, *(others if len(steps) > 1 else ()))
        finally:
            torch.set_num_threads(1)
        right = stepped if pool is None else pool(stepped)
        assert answer is not None
        torch.testing.assert_close(answer, right, rtol=0, atol=2e-6 * float(expected.abs().max() * a.abs().max()) * 4)


def test_images_that_lie_anyhow() -> None:
    image, weight = torch.randn(2, 6, 9, 7), torch.randn(5, 6, 1, 1)
    fused = FusedFloatConv2d(weight)
    for whole in (image, image.to(memory_format=torch.channels_last), image.mT, image.permute(0, 3, 2, 1)):
        channels = torch.cat([whole, whole, whole], 1)[:, :6].clone(memory_format=torch.preserve_format)
        for x in (channels, channels[:, :, ::2, ::2], channels[:1], channels[:0], channels[:, :, :1, :1],
                  channels[:, :, :1], channels[:, :, :, :1], channels[:, :, ::2, 1:]):  # fmt: skip
            answer = fused(x)
            assert answer is not None
            assert torch.equal(answer, fused(x.contiguous()) if len(x) else answer)
            torch.testing.assert_close(answer, functional.conv2d(x, weight), rtol=0, atol=1e-5)


@takes_digits
def test_images_that_are_not_for_it() -> None:
    fused, zeros = FusedFloatConv2d(torch.randn(5, 3, 3, 3)), torch.zeros(1, 3, 8, 8)
    for what in (float("nan"), float("inf"), -float("inf")):
        x = torch.randn(2, 3, 8, 8)
        x[1, 2, 7, 7] = what
        assert fused(x) is None
    spike = torch.full((1, 3, 20, 20), 0.01)
    spike[0, 1, 3, 4] = 255 * 0.01
    assert fused(spike) is not None
    spike[0, 1, 3, 4] = 600 * 0.01
    assert fused(spike) is None
    for scale, is_fit in ((2.0**50, True), (2.0**-50, True), (2.0**70, False), (2.0**-70, False)):
        assert (fused(torch.randn(1, 3, 8, 8) * scale) is not None) == is_fit
    answer = fused(zeros)
    assert answer is not None
    assert torch.equal(answer, torch.zeros(1, 5, 6, 6))


@pytest.mark.skipif(HAS_DIGITS, reason="a kernel in fixed point leaves these images to torch")
def test_images_that_hold_what_is_not_finite() -> None:
    """Inf and NaN reach what torch lets them reach, with a border and in means."""
    fused, weight = {}, torch.randn(5, 3, 3, 3)
    fused["border"] = FusedFloatConv2d(weight, padding=(1, 1)), lambda x: functional.conv2d(x, weight, padding=1)
    fused["mean"] = (
        FusedFloatConv2d(weight, mean=nn.AvgPool2d(2)),
        lambda x: functional.conv2d(nn.AvgPool2d(2)(x), weight),
    )
    for what in (float("nan"), float("inf"), -float("inf"), 2.0**70):
        x = torch.randn(2, 3, 8, 8)
        x[1, 2, 7, 7] = what
        for kernel, by_torch in fused.values():
            torch.testing.assert_close(kernel(x), by_torch(x), rtol=1e-5, atol=1e-5, equal_nan=True)


def test_the_largest_numbers() -> None:
    """Digits at their ends, in weight and image."""
    for sign in (1.0, -1.0):
        x, weight = torch.full((1, 700, 3, 3), sign * 1.9999999), torch.full((3, 700, 3, 3), 0.99999994)
        weight[1] *= -1
        weight[2] = 0
        answer = FusedFloatConv2d(weight)(x)
        exact = functional.conv2d(x.double(), weight.double())
        assert answer is not None
        torch.testing.assert_close(answer.double(), exact, rtol=2e-7, atol=0)


def test_copies() -> None:
    fused = FusedFloatConv2d(
        torch.randn(5, 6, 3, 3), bias=torch.randn(5), then=(Clamp(0.0, 2.0),), mean=nn.AvgPool2d(2)
    )
    image = torch.randn(1, 6, 9, 9)
    expected = fused(image)
    assert expected is not None
    for again in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert torch.equal(again(image), expected)


def test_what_does_not_fit() -> None:
    weight = torch.randn(5, 6, 1, 1)
    without_digits = [weight * 2.0**-80, torch.zeros(1, 2**15 + 1, 1, 1)] if HAS_DIGITS else []
    for wrong in (weight * float("inf"), weight[0], weight[:0], *without_digits):
        assert not can_convolve_floats(wrong)
        with pytest.raises(ValueError, match="a weight is"):
            FusedFloatConv2d(wrong)
    with pytest.raises(TypeError, match="weight must be float32"):
        FusedFloatConv2d(weight.double())
    with pytest.raises(ValueError, match="bias must have 5"):
        FusedFloatConv2d(weight, bias=torch.randn(4))
    with pytest.raises(ValueError, match="a mean must have"):
        FusedFloatConv2d(weight, mean=nn.AvgPool2d(2, padding=1))
    with pytest.raises(ValueError, match="a pool must have"):
        FusedFloatConv2d(weight, pool=nn.MaxPool2d(2, dilation=2))
    with pytest.raises(ValueError, match="does not fit 7 channels"):
        FusedFloatConv2d(weight)(torch.randn(1, 7, 4, 4))
