"""Products by signs in a few lines of torch, and weights for the launchers."""

import torch
from torch import Tensor
from torch.nn import functional

from proxconnect import Accumulator
from proxconnect.kernels.arguments import overflow_of
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.prepacked import _panels_by_torch


def drawn(*shape: int) -> Tensor:
    """Signs ±1."""
    return torch.randint(0, 2, shape).float() * 2 - 1


def prepacked(signs: Tensor) -> Tensor:
    shape = (*signs.shape, 1, 1)[:4]
    return _panels_by_torch(pack_bits(signs), shape, 1)


def weight_of(signs: Tensor, scale: Tensor | None = None, bias: Tensor | None = None):
    from proxconnect.gpu.launch import Weight

    return Weight(prepacked(signs), len(signs), signs[0].numel(), scale, bias)


def held_of(accumulator: Accumulator | None):
    from proxconnect.gpu.launch import Held

    return Held(*overflow_of(accumulator))


def signs_of(x: Tensor) -> Tensor:
    """sign(x) with sign(±0) = +1, and NaN for NaN."""
    return torch.where(x.isnan(), torch.nan, torch.where(x >= 0, 1.0, -1.0))


def finished(sums: Tensor, scale: Tensor | None, bias: Tensor | None, dims: tuple[int, ...] = ()) -> Tensor:
    """Sums times a scale plus a bias, in the dtype of the sums; `dims` follow that of the outputs."""
    sums = sums if scale is None else sums * scale.to(sums.dtype).view(-1, *dims)
    return sums if bias is None else sums + bias.to(sums.dtype).view(-1, *dims)


def of_floats(x: Tensor, signs: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    return finished(x.double() @ signs.double().T, scale, bias)


def of_signs(x: Tensor, signs: Tensor, scale, bias, accumulator: Accumulator | None) -> Tensor:
    sums = signs_of(x.float()) @ signs.T  # whole numbers below 2²⁴ are exact in float32
    return finished(sums if accumulator is None else accumulator(sums), scale, bias)


def of_patches(image: Tensor, signs: Tensor, stride, padding, dilation, border: float = 0.0) -> Tensor:
    height, width = padding
    padded = functional.pad(image, (width, width, height, height), value=border)
    return functional.conv2d(padded, signs.to(image.dtype), stride=stride, dilation=dilation)


def assert_close(found: Tensor, expected: Tensor, x: Tensor, factor: float = 1.0) -> None:
    """`found` is `expected` up to the rounding of its dtype, and of sums of the entries of x in float32.

    The interpreter cuts float32 to bfloat16, so that an output is off by up to one step.
    """
    assert found.shape == expected.shape
    if not found.numel():
        return
    terms = x.flatten(1).shape[1] * x.double().abs().nan_to_num(0, 0, 0).flatten(1).sum(1).max() * factor
    torch.testing.assert_close(
        found.double(), expected, rtol=torch.finfo(found.dtype).eps, atol=float(terms) * 2**-23, equal_nan=True
    )
