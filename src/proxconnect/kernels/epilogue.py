"""Epilogues of kernels: sums pass through steps and become floats, or they become signs."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import signature
from math import prod
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import (
    BEYOND,
    CPU,
    SCALED,
    overflow_of,
    require_float32,
    require_vector,
    scale_and_bias,
)
from proxconnect.kernels.library import CFused, COutput, CSigns, CStep
from proxconnect.kernels.steps import Add, Affine, Clamp, Gelu, Signs, Slope, Step

PLANS = 256
"""The number of input shapes for which a kernel caches its call."""


class Bits(NamedTuple):
    """The signs of images or rows as bits, which one binary layer gives and the next one reads instead of floats."""

    words: Tensor
    """int64, (N, H, W, ⌈channels/64⌉) or (…, ⌈channels/64⌉): bit i of word j is 1 if channel 64j + i is +1. Bits after
    the last channel are 0."""
    nan: Tensor | None
    """uint8, (N, H, W) or (…): 1 for pixels or rows that are NaN in all channels, whatever their words; None if there
    are none. A pixel counts as NaN if any group of a convolution has NaN there."""
    channels: int

    def floats(self) -> Tensor:
        """Return the signs as float32 with the channels last: ±1, and NaN for pixels or rows that `nan` marks."""
        bits = (self.words[..., None] >> torch.arange(64, device=self.words.device)) & 1
        signs = (2 * bits - 1).flatten(-2)[..., : self.channels].to(torch.float32)
        return signs if self.nan is None else torch.where(self.nan[..., None] != 0, torch.nan, signs)


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape and strides of a kernel's output, or of its words if it is `Bits`."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    is_empty: bool
    rows: int
    """The number of rows, or of pixels of all images."""


class Epilogue:
    """The conversion of a kernel's sums into its output, as a C structure at `address`; keep it alive while C reads.

    Sums overflow in the accumulator if there is one. With `Signs` they become `Bits`. Otherwise they are multiplied by
    the scale, the bias is added, and the steps `then` follow.
    """

    def __init__(
        self, channels: int, then: tuple[Step, ...] | Signs, scale: Tensor | None = None, bias: Tensor | None = None,
        accumulator: Accumulator | None = None, memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:  # fmt: skip
        self.channels, self.memory_format = channels, memory_format
        self.makes_signs = isinstance(then, Signs)
        self.adds = 0 if isinstance(then, Signs) else sum(isinstance(step, Add) for step in then)
        self._addresses = ctypes.c_void_p * self.adds
        self._alive: list[object] = []
        scale = torch.ones(1, dtype=torch.float32, device=CPU) if scale is None else scale
        if bias is None:  # −0 changes no number
            bias = torch.full((channels,), -0.0, dtype=torch.float32, device=CPU)
        scale, bias = self._kept(scale.reshape(-1).expand(channels)), self._kept(bias.reshape(-1))
        self._fused = CFused(COutput(*overflow_of(accumulator), *scale_and_bias(scale, bias)), 0, None, None)
        if isinstance(then, Signs):
            self._fused.signs = ctypes.pointer(self._intervals(then))
        elif then:
            self._fused.step_count = len(then)
            self._fused.steps = (CStep * len(then))(*[self._step(step) for step in then])
        self.address = ctypes.addressof(self._fused)

    def scale_groups(self, scale: Tensor, columns: int) -> None:
        """Multiply the sums of every group of `columns` entries by its scales, from `group_scales`."""
        self._alive.append(scale)
        to = self._fused.output
        *_, to.group, to.group_scale, to.half_group_scale = scale_and_bias(scale, None, columns)

    def layout(self, lead: tuple[int, ...], size: tuple[int, ...]) -> Layout:
        """Return the layout of the output: images (*lead, channels, *size), or rows (*lead, channels) without `size`.

        With `Signs` it is the layout of the words of the output, (*lead, *size, ⌈channels/64⌉).
        """
        words, rows = -(-self.channels // 64), prod((*lead, *size))
        shape = (*lead, *size, words) if self.makes_signs else (*lead, self.channels, *size)
        memory_format = torch.contiguous_format if self.makes_signs else self.memory_format
        strides = torch.empty(shape, device="meta", memory_format=memory_format).stride()
        return Layout(shape, strides, 0 in shape, rows)

    def run(
        self, function: Callable[..., int], arguments: tuple[object, ...], layout: Layout, others: tuple[Tensor, ...],
        nan: tuple[None, ...] = (None,),
    ) -> Tensor | Bits:  # fmt: skip
        """Call a C function, and return its output: floats, or `Bits` with `Signs`.

        `arguments` are those before the address of the epilogue, `others` the addends of the `Add` steps. `nan` is ()
        for functions without an argument for a NaN map, which cannot return signs.
        """
        _others, added = self.added(others, layout.shape)
        if not self.makes_signs:
            output = torch.empty_strided(layout.shape, layout.strides, dtype=torch.float32, device=CPU)
            if not layout.is_empty:
                function(*arguments, self.address, added, *nan, output.data_ptr(), torch.get_num_threads())
            return output
        words = torch.empty_strided(layout.shape, layout.strides, dtype=torch.int64, device=CPU)
        threads = torch.get_num_threads()
        if layout.is_empty or not function(*arguments, self.address, added, None, words.data_ptr(), threads):
            return Bits(words, None, self.channels)
        # Inputs hold NaN: once more, to learn what it reaches.
        reached = torch.zeros(layout.shape[:-1], dtype=torch.uint8, device=CPU)
        function(*arguments, self.address, added, reached.data_ptr(), words.data_ptr(), threads)
        return Bits(words, reached if reached.any() else None, self.channels)

    def added(self, others: tuple[Tensor, ...], shape: tuple[int, ...]) -> tuple[tuple[Tensor, ...], object]:
        """Return addends to keep alive and a C array of their addresses; raise unless they suit the `Add` steps.

        There must be one for each step, float32 on the CPU, of this shape and in the epilogue's memory format. Without
        addends, the array is None.
        """
        if len(others) != self.adds:
            raise ValueError(f"the steps add {self.adds} other tensors; got {len(others)}")
        if not others:
            return others, None
        for other in others:
            if not isinstance(other, Tensor) or other.dtype is not torch.float32 or not other.is_cpu:
                require_float32("what is added", other)
            if other.shape != shape or not other.is_contiguous(memory_format=self.memory_format):
                raise ValueError(
                    f"what is added must be {tuple(shape)}, contiguous in {self.memory_format}; got "
                    f"{tuple(other.shape)} with strides {other.stride()}: use .contiguous(memory_format="
                    f"{self.memory_format})"
                )
        others = tuple([other.resolve_neg() for other in others]) if any(map(Tensor.is_neg, others)) else others
        return others, self._addresses(*[other.data_ptr() for other in others])

    def _kept(self, values: Tensor) -> Tensor:
        self._alive.append(whole := padded(values))
        return whole

    def _vector(self, name: str, values: Tensor) -> int:
        require_vector(name, values, self.channels)
        return self._kept(values.reshape(-1)).data_ptr()

    def _step(self, step: Step) -> CStep:
        match step:
            case Affine(a, b):
                return CStep(0, 0, 0, self._vector("a", a), self._vector("b", b))
            case Clamp(low, high):
                return CStep(1, low, high, None, None)
            case Slope(a):
                return CStep(2, 0, 0, self._vector("a", a), None)
            case Add():
                return CStep(3, 0, 0, None, None)
            case Gelu():
                return CStep(4, 0, 0, None, None)
        raise TypeError(f"a step is Affine, Clamp, Slope, Add or Gelu; got {step!r}")

    def _intervals(self, signs: Signs) -> CSigns:
        """Return intervals without flips: a flip complements the first interval of a channel, modulo 2^32."""
        if signs.flip.numel() != self.channels:
            raise ValueError(f"flip must have {self.channels} entries; got {tuple(signs.flip.shape)}")
        low, width = (x.to("cpu", torch.int64).reshape(-1, x.shape[-1]) for x in (signs.low, signs.width))
        if low.shape != width.shape or low.shape[1] != self.channels:
            raise ValueError(
                f"low and width must be (…, {self.channels}); got {tuple(signs.low.shape)} and "
                f"{tuple(signs.width.shape)}"
            )
        width &= 2**32 - 1
        flip = signs.flip.reshape(1, -1) != 0
        flip = torch.cat([flip, torch.zeros_like(flip).expand(len(low) - 1, -1)])
        after = torch.where(width == 0, -(2**31), low + width)
        all_else = torch.where(width == 0, 2**32 - 1, 2**32 - width)  # for no sum is 2^31 - 1
        low, width = torch.where(flip, after, low), torch.where(flip, all_else, width)
        low, width = (((x + 2**31) % 2**32 - 2**31).to(torch.int32) for x in (low, width))
        return CSigns(len(low), self._kept(low).data_ptr(), self._kept(width).data_ptr())


_signature = cache(signature)  # a third of the time that a kernel's construction would take


class FusedKernel:
    """The base class of callables that bind a C function to a weight, if it takes one, and to epilogue steps.

    Threads may share one. Copies and pickles are built again from the arguments of the constructor.
    """

    _made_of: tuple[object, ...]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Create the kernel, and keep the arguments of the constructor, with which it is copied and pickled."""
        new = super().__new__(cls)
        bound = _signature(cls.__init__).bind(new, *args, **kwargs)
        bound.apply_defaults()
        new._made_of = (*bound.arguments.values(),)[1:]
        return new

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._made_of


def padded(values: Tensor) -> Tensor:
    """Return a copy whose last dimension repeats for `BEYOND` more entries."""
    entries = values.shape[-1]
    return values.detach()[..., torch.arange(entries + BEYOND, device=CPU) % entries].contiguous()


def group_scales(scale: Tensor) -> Tensor:
    """Lay out scales (out, groups) of every input group of a weight-only linear layer for kernels.

    The groups divide the inputs evenly, into multiples of 64. The result is (⌈out/32⌉, groups, 32), contiguous on the
    device of the scales. On the CPU it is float16 if that holds every scale exactly, else float32. Elsewhere it is
    float16 for scales in float16, because a look at values would wait for the device. While torch compiles or exports,
    the values are not known yet, and it is float32. Products are the same bit by bit.
    """
    dtype, scale = scale.dtype, pad(scale.detach().float(), (0, 0, 0, -scale.shape[0] % SCALED))
    made: Tensor = scale.unflatten(0, (-1, SCALED)).transpose(1, 2).contiguous()
    if torch.compiler.is_compiling():
        return made
    if made.device != CPU:
        return made.half() if dtype is torch.float16 else made
    halves = made.half()
    same = (halves.float().view(torch.int32) == made.view(torch.int32)) | made.isnan()  # zeros of both signs, too
    return halves if same.all() else made


def words_and_nan(bits: Bits) -> tuple[Tensor, int | None]:
    """Return the contiguous words of bits, and the address of `nan` or None; raise unless they are as `Bits` says."""
    words, nan, channels = bits
    if words.dtype is not torch.int64 or not words.is_cpu:
        raise TypeError(f"words of signs must be int64 on the CPU; got {words.dtype} on {words.device}")
    if words.dim() == 0 or words.shape[-1] != -(-channels // 64):
        raise ValueError(f"{channels} channels are {-(-channels // 64)} words; got words {tuple(words.shape)}")
    if nan is None:
        return words.contiguous(), None
    if nan.dtype is not torch.uint8 or not nan.is_cpu or not nan.is_contiguous() or nan.shape != words.shape[:-1]:
        raise ValueError(
            f"nan must be contiguous uint8 {tuple(words.shape[:-1])} on the CPU; got {nan.dtype} {tuple(nan.shape)} on "
            f"{nan.device}"
        )
    return words.contiguous(), nan.data_ptr()
