"""Steps and a pool in one pass, against torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from proxconnect import kernels
from proxconnect.kernels.finish import Finish, FinishMaxPool2d
from proxconnect.kernels.steps import Add, Affine, Clamp

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")


def steps(channels: int) -> tuple[Affine, Clamp]:
    return Affine(torch.randn(channels), torch.randn(channels)), Clamp(-0.5, 2.0)


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    size=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    channels=st.sampled_from([1, 15, 16, 64, 70]),
    is_padded=st.booleans(),
    ceil_mode=st.booleans(),
    instruction_set=st.sampled_from(kernels.instruction_sets() or ("portable",)),
)
def test_it_equals_torch(kernel, stride, size, channels, is_padded, ceil_mode, instruction_set):
    padding = tuple(k // 2 for k in kernel) if is_padded else 0
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    then = steps(channels)
    x = torch.randn(2, channels, *size).contiguous(memory_format=torch.channels_last)
    x[1, 0, 1, 2] = torch.nan
    mine = FinishMaxPool2d(then, channels, pool, instruction_set)(x)
    expected = pool(Finish(then, channels, instruction_set)(x))
    torch.testing.assert_close(mine, expected, rtol=0, atol=0, equal_nan=True)
    assert mine.is_contiguous(memory_format=torch.channels_last)


def test_two_threads():
    torch.set_num_threads(2)
    try:
        x = torch.randn(3, 64, 56, 56).contiguous(memory_format=torch.channels_last)
        pool = nn.MaxPool2d(3, 2, 1)
        assert torch.equal(FinishMaxPool2d((), 64, pool)(x), pool(x))
    finally:
        torch.set_num_threads(1)


def test_empty_batches():
    x = torch.empty(0, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert FinishMaxPool2d((), 3, nn.MaxPool2d(2))(x).shape == (0, 3, 4, 4)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="no Add"):
        FinishMaxPool2d((Add(),), 3, nn.MaxPool2d(2))
    with pytest.raises(ValueError, match="neither dilation nor indices"):
        FinishMaxPool2d((), 3, nn.MaxPool2d(2, dilation=2))
    pool = FinishMaxPool2d((), 3, nn.MaxPool2d(2))
    with pytest.raises(ValueError, match=r"x must be \(N, 3, H, W\) in the memory format channels_last"):
        pool(torch.randn(1, 3, 8, 8))
    with pytest.raises(TypeError, match="x must be float32"):
        pool(torch.randn(1, 3, 8, 8).double())
