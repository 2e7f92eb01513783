"""Depthwise convolutions of floats with what stands around them in one pass, against float64."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.kernels import Add, Affine, Clamp, FusedFloatConv2d, fused_conv
from proxconnect.kernels.library import loaded

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")


@given(
    channels=st.sampled_from([2, 5, 16, 40, 72, 300]), kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)), padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)), has_planes=st.booleans(),
    size=st.tuples(st.integers(9, 15), st.integers(9, 20)), threads=st.integers(1, 2),
    instruction_set=st.sampled_from(kernels.instruction_sets() or ["none"]),
)  # fmt: skip
def test_it_equals_doubles(
    channels: int, kernel: Any, stride: Any, padding: Any, dilation: Any, has_planes: bool, size: Any, threads: int,
    instruction_set: str,
) -> None:  # fmt: skip
    memory_format = torch.contiguous_format if has_planes else torch.channels_last
    x = torch.randn(2, channels, *size).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(channels, 1, *kernel), torch.randn(channels)
    torch.set_num_threads(threads)
    try:
        with patch.object(fused_conv, "loaded", lambda _: loaded(instruction_set)):
            answer = FusedFloatConv2d(weight, stride, padding, dilation, bias, groups=channels)(x)
    finally:
        torch.set_num_threads(1)
    expected = functional.conv2d(x.double(), weight.double(), bias.double(), stride, padding, dilation, channels)
    assert answer is not None
    assert answer.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(answer.double(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("window", [None, nn.AvgPool2d(2)])
@pytest.mark.parametrize("pool", [None, nn.MaxPool2d(3, 2, 1)])
def test_means_steps_and_pools(window: Any, pool: Any) -> None:
    x, weight = torch.randn(2, 24, 18, 21).contiguous(memory_format=torch.channels_last), torch.randn(24, 1, 3, 3)
    a, b = torch.randn(24), torch.randn(24)
    expected = functional.conv2d(x if window is None else window(x), weight, None, 1, 1, 1, 24)
    other = torch.randn_like(expected)
    stepped = (expected * a.view(-1, 1, 1) + b.view(-1, 1, 1)).clamp(0, 6)
    steps = (Affine(a, b), Clamp(0.0, 6.0), *([Add()] if pool is None else []))
    right = stepped + other if pool is None else pool(stepped)
    fused = FusedFloatConv2d(weight, padding=(1, 1), then=steps, mean=window, pool=pool, groups=24)
    torch.testing.assert_close(fused(x, *([other] if pool is None else [])), right, rtol=0, atol=2e-5)


def test_other_groups_are_refused() -> None:
    for weight, groups in ((torch.randn(8, 2, 3, 3), 4), (torch.randn(8, 1, 3, 3), 4), (torch.randn(4, 1, 3), 4)):
        with pytest.raises(ValueError, match="several groups"):
            FusedFloatConv2d(weight, groups=groups)
    with pytest.raises(ValueError, match="does not fit 5 channels"):
        FusedFloatConv2d(torch.randn(4, 1, 3, 3), groups=4)(torch.randn(1, 5, 6, 6))
