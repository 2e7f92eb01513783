"""Signs as bits, against numpy's own packing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxconnect.deploy.packed import pack_bits, unpack_bits
from proxconnect.kernels.bits import pad_is_zero

SHAPES = st.lists(st.integers(0, 9), min_size=0, max_size=4).map(tuple)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@given(shape=SHAPES, seed=st.integers(0, 1000), dtype=st.sampled_from([*DTYPES, torch.int8, torch.int64]))
def test_equals_numpy(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    tensor = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    bits = pack_bits(tensor)
    expected = np.packbits(tensor.double().numpy().ravel() >= 0, bitorder="little")
    assert bits.dtype == torch.uint8
    assert np.array_equal(bits.numpy(), expected)
    assert bits.numel() == (tensor.numel() + 7) // 8
    assert bits.numel() == 0 or pad_is_zero(bits, tensor.numel())


@given(shape=SHAPES, seed=st.integers(0, 1000), dtype=st.sampled_from(DTYPES))
def test_unpacks_what_was_packed(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    signs = unpack_bits(pack_bits(latent), shape, dtype)
    assert (signs.shape, signs.dtype) == (shape, dtype)
    assert torch.equal(signs, torch.where(latent >= 0, 1.0, -1.0).to(dtype))


def test_both_zeros_are_plus_one_and_infinities_have_signs() -> None:
    tensor = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, -1e-45, 1e-45])
    assert pack_bits(tensor).tolist() == [0b100111]


def test_order_is_that_of_the_logical_tensor() -> None:
    tensor = torch.randn(3, 5, 4, 7)
    for view in (tensor.to(memory_format=torch.channels_last), tensor.permute(2, 0, 3, 1)):
        assert torch.equal(pack_bits(view), pack_bits(view.clone(memory_format=torch.contiguous_format)))


def test_meta_device_gives_shapes() -> None:
    bits = pack_bits(torch.empty(3, 7, device="meta"))
    assert (bits.is_meta, bits.shape) == (True, (3,))


def test_refuses_what_has_no_sign() -> None:
    with pytest.raises(ValueError, match="NaN"):
        pack_bits(torch.tensor([1.0, torch.nan]))
    for dtype in (torch.bool, torch.uint8, torch.complex64):
        with pytest.raises(TypeError, match="signed"):
            pack_bits(torch.ones(3).to(dtype))


@pytest.mark.parametrize(
    "bits", [torch.zeros(1, dtype=torch.uint8), torch.zeros(3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int8)]
)
def test_unpacking_refuses_other_sizes(bits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="9 signs are 2 bytes"):
        unpack_bits(bits, (3, 3))


@pytest.mark.parametrize("bit", range(3, 8))
def test_a_set_pad_bit_is_seen(bit: int) -> None:
    bits = pack_bits(torch.ones(11))
    assert pad_is_zero(bits, 11)
    bits[-1] |= 1 << bit
    assert not pad_is_zero(bits, 11)
