"""Steps that an epilogue runs on floats, and the signs that it may make of sums instead."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """The epilogue step v ↦ v·a + b, rounded once, as batch norm in `eval()`; a and b are float32 (channels,)."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Clamp:
    """The epilogue step that clamps v to [low, high]; NaN stays NaN. ReLU is the clamp to [0, inf]."""

    low: float
    high: float


@dataclass(frozen=True)
class Slope:
    """The epilogue step v ↦ v if v > 0, else a·v, as PReLU; `a` is float32 (channels,)."""

    a: Tensor


@dataclass(frozen=True)
class Add:
    """The epilogue step that adds the next addend; addends are the further tensors of a kernel's call, in order."""


@dataclass(frozen=True)
class Gelu:
    """The epilogue step v ↦ v·Φ(v), as `nn.GELU`, within 3e-7 · max(1, |v|)."""


Step = Affine | Clamp | Slope | Add | Gelu


@dataclass(frozen=True)
class Signs:
    """An epilogue that turns integer sums into signs, without steps, scale or bias.

    z is a sum after the overflow of the accumulator (of a cyclic one, after wrapping). Its sign is +1 if an odd number
    of the channel's intervals contains it, low ≤ z < low + width. If `flip` is true for the channel, it is +1 if an
    even number does. A threshold needs one interval.
    """

    low: Tensor
    """int32, (channels,) or (intervals, channels)."""
    width: Tensor
    """int32 of the same shape, read as unsigned; 0 makes an interval empty."""
    flip: Tensor
    """bool or uint8, one entry for each channel."""
