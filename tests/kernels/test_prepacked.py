"""Prepacked weights of signs, against their definition word by word."""

from math import prod

import numpy as np
import pytest
import torch
from draws import drawn
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from proxconnect import kernels
from proxconnect.kernels.bits import pack_bits

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

SIZES = st.integers(1, 9) | st.sampled_from([63, 64, 65, 72, 130])
TAPS = st.integers(1, 4)


def words(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, columns) of booleans as words (n, ⌈columns/64⌉)."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 64)))
    return np.ascontiguousarray(np.packbits(padded, axis=1, bitorder="little")).view(np.int64)


def panels_of(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, columns) of booleans as panels (⌈n/8⌉, ⌈columns/64⌉, 8)."""
    made = words(rows)
    panels = np.zeros((-(-len(made) // 8), made.shape[1], 8), np.int64)
    for row, word in np.ndindex(made.shape):
        panels[row // 8, word, row % 8] = made[row, word]
    return panels


@given(rows=SIZES, columns=SIZES | st.just(1000), seed=st.integers(0, 99))
def test_panels(rows: int, columns: int, seed: int) -> None:
    weight = drawn(rows, columns, seed=seed)
    assert np.array_equal(kernels.panels(pack_bits(weight), rows, columns), panels_of(weight.numpy() >= 0))


@given(groups=st.integers(1, 3), outputs=SIZES, channels=SIZES, height=TAPS, width=TAPS, seed=st.integers(0, 99))
def test_conv_panels(groups: int, outputs: int, channels: int, height: int, width: int, seed: int) -> None:
    weight = drawn(groups * outputs, channels, height, width, seed=seed)
    rows = (weight.numpy() >= 0).transpose(0, 2, 3, 1).reshape(groups, outputs, -1)
    bits, expected = pack_bits(weight), np.concatenate([panels_of(group) for group in rows])
    assert np.array_equal(kernels.patch_panels(bits, weight.shape, groups), expected)
    if groups > 1 and channels < 64 and outputs < 32:
        expected = words(rows.reshape(groups * outputs, -1).T)
    assert np.array_equal(kernels.conv_panels(bits, weight.shape, groups), expected)


def test_bits_after_the_last_weight_and_before_the_first_are_not_read() -> None:
    """The last panel ends in bits that are set, and the weight begins at an odd address."""
    for shape in ((3, 5, 1, 1), (9, 3, 3, 3), (8, 64, 1, 1)):
        bits = pack_bits(-torch.ones(shape))
        bits[-1] |= 255 << prod(shape) % 8 & 255 if prod(shape) % 8 else 0
        shifted = torch.cat([torch.full((1,), 255, dtype=torch.uint8), bits])[1:]
        assert not kernels.patch_panels(shifted, shape).any()


def test_other_layouts_of_bits() -> None:
    bits = pack_bits(drawn(16, 9, 3, 3, seed=0))
    strided = torch.stack([bits, 255 - bits], 1)[:, 0]
    assert torch.equal(kernels.patch_panels(strided, (16, 9, 3, 3)), kernels.patch_panels(bits, (16, 9, 3, 3)))
    with FakeTensorMode() as mode:
        assert kernels.panels(mode.from_tensor(bits), 16, 81).shape == (2, 2, 8)
    assert kernels.panels(mode.from_tensor(bits), 16, 81).shape == (2, 2, 8)


def test_threads_share_panels() -> None:
    """The weight is large enough for threads."""
    weight, before = drawn(500, 300, 3, 3, seed=0), torch.get_num_threads()
    expected = kernels.patch_panels(pack_bits(weight), weight.shape)
    torch.set_num_threads(3)
    assert torch.equal(kernels.patch_panels(pack_bits(weight), weight.shape), expected)
    torch.set_num_threads(before)
