"""Products of rows with all that follows them up to the next layer, in one pass."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import CPU, as_rows, require_weight, resolved
from proxconnect.kernels.entries import INT8, ROUNDED, SIGNS, require_entries
from proxconnect.kernels.epilogue import PLANS, Bits, Epilogue, Layout, Signs, Step, addresses, words_and_nan
from proxconnect.kernels.fused import FusedKernel
from proxconnect.kernels.library import loaded
from proxconnect.kernels.prepacked import int8_panels_shape, panels_shape


class _Call(NamedTuple):
    """What the shape of an input says."""

    rows: int
    layout: Layout


class _FusedRows(FusedKernel):
    """Rows of floats times a prepacked weight, then through an epilogue."""

    def __init__(
        self, multiply: Callable[..., int], how: tuple[int, ...], panels: Tensor, sizes: tuple[int, int],
        epilogue: Epilogue,
    ) -> None:  # fmt: skip
        self._multiply, self._how, self._panels = multiply, how, panels
        self._in_features, self._out_features = sizes
        self._epilogue = epilogue
        self._call = lru_cache(PLANS)(partial(_plan, sizes[0], epilogue))

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """Return the output."""
        input = resolved("input", input)
        call, stride = self._call(input.shape), self._in_features
        if not input.is_contiguous():
            input = as_rows(input)
            stride = input.stride(0)
        layout = call.layout
        others = self._epilogue.added(others, layout.shape)
        output = torch.empty(layout.shape, dtype=torch.float32, device=CPU)
        if not layout.is_empty:
            self._multiply(
                *self._how, input.data_ptr(), call.rows, self._in_features, stride, self._panels.data_ptr(),
                self._out_features, self._epilogue.address, addresses(others), output.data_ptr(),
                torch.get_num_threads(),
            )  # fmt: skip
        return output


class FusedLinear(FusedKernel):
    """sign(input) times a weight of signs; the sums held, scaled and shifted, then through steps or as signs.

    Call it with an input (…, in), float32 on the CPU, or with `Bits` of one. It returns (…, out), float32, or with
    `Signs` the `Bits` of it. `others` are what the steps `Add` add: float32 of the output's shape, contiguous. A row
    that holds NaN becomes NaN. No gradient goes through.

    Args:
        panels: the prepacked weight, by `panels()`.
        in_features, out_features: the columns and rows of the weight.
        scale, bias, accumulator, instruction_set: as of `binary_linear`.
        then: the epilogue steps, in order, or which sums become +1.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """

    def __init__(
        self,
        panels: Tensor,
        in_features: int,
        out_features: int,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        accumulator: Accumulator | None = None,
        then: tuple[Step, ...] | Signs = (),
        instruction_set: str | None = None,
    ) -> None:
        self._made_of = (
            panels, in_features, out_features, scale, bias, accumulator, then, instruction_set,
        )  # fmt: skip
        require_entries(in_features, SIGNS)
        require_weight(panels, panels_shape(out_features, in_features), out_features, scale, bias)
        kernels, self._number = loaded(instruction_set)
        self._multiply, self._panels = kernels.px_fused_linear, panels
        self._in_features, self._out_features = in_features, out_features
        self._epilogue = Epilogue(out_features, then, scale, bias, accumulator)
        self._call = lru_cache(PLANS)(partial(_plan, in_features, self._epilogue))

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """Return the output, floats or signs."""
        stride = self._in_features
        if isinstance(input, Bits):
            words, nan = words_and_nan(input)
            call = self._call((*words.shape[:-1], input.channels))
            source: tuple[int | None, ...] = None, words.data_ptr(), nan
        else:
            input = resolved("input", input)
            call = self._call(input.shape)
            if not input.is_contiguous():
                input = as_rows(input)
                stride = input.stride(0)
            source = input.data_ptr(), None, None
        weight = self._in_features, stride, self._panels.data_ptr(), self._out_features
        return self._epilogue.run(self._multiply, (self._number, *source, call.rows, *weight), call.layout, others)


class FusedFloatLinear(_FusedRows):
    """Rows, exact or rounded to 8 bits, times a weight of signs, scaled and shifted, then through steps.

    Call it as `FusedLinear`, without bits. It returns, to the bit, what the steps make of the output of
    `weight_only_linear`, or with `rounds` of `dynamic_int8_linear`.

    Args:
        panels, in_features, out_features, scale, bias, then, instruction_set: as of `FusedLinear`.
        rounds: whether each row of the input is rounded; `in` is at most 2²⁴ then.

    Raises:
        ValueError, TypeError, RuntimeError: as `FusedLinear`.
    """

    def __init__(
        self,
        panels: Tensor,
        in_features: int,
        out_features: int,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        then: tuple[Step, ...] = (),
        rounds: bool = False,
        instruction_set: str | None = None,
    ) -> None:
        self._made_of = (panels, in_features, out_features, scale, bias, then, rounds, instruction_set)
        require_entries(in_features, ROUNDED if rounds else None)
        require_weight(panels, panels_shape(out_features, in_features), out_features, scale, bias)
        kernels, number = loaded(instruction_set)
        epilogue = Epilogue(out_features, then, scale, bias)
        how, sizes = (number, int(rounds)), (in_features, out_features)
        super().__init__(kernels.px_fused_float_linear, how, panels, sizes, epilogue)


class FusedInt8Linear(_FusedRows):
    """`int8_linear` of an input, then through steps, to the bit.

    Call it as `FusedLinear`, without bits.

    Args:
        panels: the prepacked weight, by `int8_panels()`.
        in_features: the columns of the weight, at most 2¹⁷.
        out_features, scale, bias, then, instruction_set: as of `FusedLinear`.

    Raises:
        ValueError, TypeError, RuntimeError: as `FusedLinear`.
    """

    def __init__(
        self,
        panels: Tensor,
        in_features: int,
        out_features: int,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        then: tuple[Step, ...] = (),
        instruction_set: str | None = None,
    ) -> None:
        self._made_of = (panels, in_features, out_features, scale, bias, then, instruction_set)
        require_entries(in_features, INT8)
        shape = int8_panels_shape((out_features, in_features))
        require_weight(panels, shape, out_features, scale, bias, torch.int8)
        kernels, number = loaded(instruction_set)
        if bias is None:  # as `int8_linear` adds it, which makes 0 of -0
            bias = torch.zeros(out_features, dtype=torch.float32, device=CPU)
        epilogue = Epilogue(out_features, then, scale, bias)
        super().__init__(kernels.px_fused_int8_linear, (number,), panels, (in_features, out_features), epilogue)


def _plan(in_features: int, epilogue: Epilogue, shape: Sequence[int]) -> _Call:
    """Return what the shape of an input says; ValueError unless its rows have `in_features` entries."""
    if tuple(shape[-1:]) != (in_features,):
        raise ValueError(f"input must be (…, {in_features}); got {tuple(shape)}")
    return _Call(prod(shape[:-1]), epilogue.layout(tuple(shape[:-1]), ()))
