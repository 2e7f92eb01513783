"""8-bit convolutions with what stands around them in one pass, against the operators one after another."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect.kernels.finish import Finish
from proxconnect.kernels.fused_image_conv import FusedInt8Conv2d
from proxconnect.kernels.steps import Add, Affine, Clamp, Slope, Step

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

SETS = kernels.instruction_sets() or ("portable",)


def weights(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers, scales and biases."""
    return torch.randint(-127, 128, shape, dtype=torch.int8), torch.randn(shape[0]), torch.randn(shape[0])


def steps(channels: int, keeps_order: bool = False) -> tuple[Step, ...]:
    slope = torch.rand(channels) if keeps_order else torch.randn(channels)
    return Affine(torch.randn(channels), torch.randn(channels)), Clamp(-3.0, 2.0), Slope(slope)


def one_by_one(
    input: Tensor, weight: tuple[Any, ...], geometry: tuple[Any, ...], then: tuple[Step, ...], mean: nn.Module | None,
    pool: nn.Module | None, instruction_set: str, *others: Tensor,
) -> Tensor:  # fmt: skip
    """By torch's pools, the 8-bit convolution and the steps by themselves."""
    levels, *rest = weight
    channels = levels.shape[0]
    seen = input if mean is None else mean(input)
    panels = kernels.int8_panels(levels, geometry[2])
    sums = kernels.int8_conv2d(seen.contiguous(), panels, levels.shape, *geometry, *rest, instruction_set)
    stepped = Finish(then, channels, instruction_set)(sums.contiguous(memory_format=torch.channels_last), *others)
    return stepped if pool is None else pool(stepped)


@given(
    channels=st.integers(1, 70), outputs=st.integers(1, 90), kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.integers(1, 3), padding=st.integers(0, 3), dilation=st.integers(1, 2), has_planes=st.booleans(),
    window=st.sampled_from([None, (1, 1), (2, 2), (3, 2)]), ceil_mode=st.booleans(),
    pool=st.sampled_from([None, ((3, 3), 2, 1), ((2, 2), 2, 0), ((1, 2), 1, 0)]),
    keeps_order=st.booleans(), instruction_set=st.sampled_from(SETS), threads=st.integers(1, 2),
)  # fmt: skip
def test_it_equals_one_after_another(
    channels: int, outputs: int, kernel: tuple[int, int], stride: int, padding: int, dilation: int, has_planes: bool,
    window: tuple[int, int] | None, ceil_mode: bool, pool: tuple[Any, ...] | None, keeps_order: bool,
    instruction_set: str, threads: int,
) -> None:  # fmt: skip
    memory_format = torch.contiguous_format if has_planes else torch.channels_last
    input = torch.randn(2, channels, 19, 20).contiguous(memory_format=memory_format)
    mean = None if window is None else nn.AvgPool2d(window, ceil_mode=ceil_mode)
    largest = None if pool is None else nn.MaxPool2d(*pool, ceil_mode=ceil_mode)
    geometry = (stride, stride), (padding, 0), (1, dilation)
    weight, then = weights(outputs, channels, *kernel), steps(outputs, keeps_order)
    expected = one_by_one(input, weight, geometry, then, mean, largest, instruction_set)
    others: tuple[Tensor, ...] = ()
    if pool is None:
        others = (torch.randn_like(expected),)
        then = (then[0], Add(), *then[1:])
        expected = one_by_one(input, weight, geometry, then, mean, largest, instruction_set, *others)
    panels = kernels.int8_panels(weight[0], geometry[2])
    fused = FusedInt8Conv2d(
        panels, weight[0].shape, *geometry, *weight[1:], then, mean, largest, instruction_set
    )  # fmt: skip
    torch.set_num_threads(threads)
    try:
        answer = fused(input, *others)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(answer, expected)
    assert answer.is_contiguous(memory_format=torch.channels_last)


def test_two_threads_and_few_steps() -> None:
    """A stem, of whose rows each thread makes some."""
    weight = weights(64, 3, 7, 7)
    geometry, then, pool = ((2, 2), (3, 3), (1, 1)), steps(64)[:1], nn.MaxPool2d(3, 2, 1)
    input = torch.randn(2, 3, 65, 96)
    panels = kernels.int8_panels(weight[0])
    expected = one_by_one(input, weight, geometry, then, None, pool, SETS[-1])
    torch.set_num_threads(2)
    try:
        assert torch.equal(
            FusedInt8Conv2d(panels, weight[0].shape, *geometry, *weight[1:], then, None, pool)(input), expected
        )
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("instruction_set", SETS)
def test_numbers_beyond_floats_before_a_pool(instruction_set: str) -> None:
    """What is infinite may become NaN, which is then the largest."""
    levels, input, pool = weights(20, 3, 1, 1)[0], torch.randn(1, 3, 6, 6), nn.MaxPool2d(2)
    scale, zero = torch.full((20,), 1e38), torch.zeros(20)
    then = (Affine(torch.full((20,), 1e10), zero), Affine(zero, zero))
    expected = one_by_one(input, (levels, scale, None), ((1, 1), (0, 0), (1, 1)), then, None, pool, instruction_set)
    fused = FusedInt8Conv2d(
        kernels.int8_panels(levels), levels.shape, scale=scale, then=then, pool=pool, instruction_set=instruction_set
    )
    assert expected.isnan().any()
    torch.testing.assert_close(fused(input), expected, rtol=0, atol=0, equal_nan=True)


def test_neither_scale_nor_bias_nor_steps() -> None:
    levels, input = weights(9, 5, 1, 1)[0], torch.randn(2, 5, 6, 7)
    panels = kernels.int8_panels(levels)
    for scale in (None, torch.rand(1)):
        expected = kernels.int8_conv2d(input, panels, levels.shape, scale=scale)
        assert torch.equal(FusedInt8Conv2d(panels, levels.shape, scale=scale)(input), expected)


def test_images_that_lie_anyhow() -> None:
    levels, *_ = weights(5, 6, 1, 1)
    panels, shape = kernels.int8_panels(levels), levels.shape
    image = torch.randn(2, 6, 9, 7)
    for mean in (None, nn.AvgPool2d(2, ceil_mode=True)):
        fused = FusedInt8Conv2d(panels, shape, mean=mean)
        for whole in (image, image.to(memory_format=torch.channels_last), image.mT, image.permute(0, 3, 2, 1)):
            channels = torch.cat([whole, whole, whole], 1)[:, :6].clone(memory_format=torch.preserve_format)
            for input in (channels, channels[:, :, ::2, ::2], channels[:1], channels[:0], channels[:, :, :1, :1],
                          channels[:, :, :1], channels[:, :, :, :1], channels[:, :, ::2, 1:]):  # fmt: skip
                plain = input.contiguous()
                expected = kernels.int8_conv2d(plain if mean is None else mean(plain), panels, shape)
                assert torch.equal(fused(input), expected)


@pytest.mark.parametrize("what", [float("nan"), float("inf"), -float("inf")])
def test_nan(what: float) -> None:
    levels, *_ = weights(5, 6, 1, 1)
    images = torch.randn(3, 6, 4, 4)
    images[1, 5, 0, 1] = what
    panels = kernels.int8_panels(levels)
    for mean, pool in ((None, None), (nn.AvgPool2d(2), None), (None, nn.MaxPool2d(2))):
        answer = FusedInt8Conv2d(panels, levels.shape, then=steps(5), mean=mean, pool=pool)(images)
        assert answer.isnan().flatten(1).all(1).tolist() == [False, True, False]
        assert not answer[::2].isnan().any()


def test_copies() -> None:
    levels, scale, bias = weights(5, 6, 3, 3)
    fused = FusedInt8Conv2d(
        kernels.int8_panels(levels), levels.shape, scale=scale, bias=bias, then=steps(5), mean=nn.AvgPool2d(2)
    )
    image = torch.randn(1, 6, 9, 9)
    for twin in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert torch.equal(twin(image), fused(image))


def test_what_does_not_fit() -> None:
    levels, scale, bias = weights(5, 6, 1, 1)
    panels, shape = kernels.int8_panels(levels), levels.shape
    for options, words in [
        ({"scale": scale[:4]}, "scale must have 1 or 5"),
        ({"bias": bias[:4]}, "bias must have 5"),
        ({"mean": nn.AvgPool2d(2, padding=1)}, "a mean must have"),
        ({"mean": nn.AvgPool2d(2, divisor_override=3)}, "a mean must have"),
        ({"pool": nn.MaxPool2d(2, return_indices=True)}, "a pool must have"),
        ({"pool": nn.MaxPool2d(2, dilation=2)}, "a pool must have"),
        ({"pool": nn.MaxPool2d(2), "then": (Add(),)}, "a pool must have"),
        ({"instruction_set": "vax"}, "this machine runs"),
    ]:
        with pytest.raises(ValueError, match=words):
            FusedInt8Conv2d(panels, shape, **options)
    with pytest.raises(ValueError, match="the panels of such a weight"):
        FusedInt8Conv2d(panels, (70, 6, 1, 1))
    fused = FusedInt8Conv2d(panels, shape, then=(Add(),))
    with pytest.raises(ValueError, match="does not fit 7 channels"):
        fused(torch.randn(1, 7, 4, 4))
    with pytest.raises(ValueError, match=r"input must be \(N, in, H, W\)"):
        fused(torch.randn(6, 4, 4))
    with pytest.raises(ValueError, match="the steps add 1 other"):
        fused(torch.randn(1, 6, 4, 4))
    with pytest.raises(ValueError, match="what is added must be"):
        fused(torch.randn(1, 6, 4, 4), torch.randn(1, 5, 4, 5))
    with pytest.raises(TypeError, match="input must be float32"):
        fused(torch.randn(1, 6, 4, 4).double(), torch.randn(1, 5, 4, 4))
