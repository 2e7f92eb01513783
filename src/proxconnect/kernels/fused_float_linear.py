"""A product of floats with signs and what follows it in one pass, called without torch's dispatcher."""

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod

import torch
from torch import Tensor

from proxconnect.kernels.entries import ROUNDED, require_entries
from proxconnect.kernels.epilogue import PLANS, Epilogue, Step, addresses
from proxconnect.kernels.operator import CPU, as_rows, loaded, require_weight, resolved
from proxconnect.kernels.panels import panels_shape
from proxconnect.kernels.remade import Remade


@dataclass(frozen=True, slots=True)
class _Call:
    """What the shape of an input says."""

    rows: int
    output: tuple[int, ...]
    is_empty: bool


class FusedFloatLinear(Remade):
    """input, exact or rounded to 8 bits by row, times a weight of signs, scaled and shifted, then through steps.

    Called with an input (…, in), float32 on the CPU. Returns (…, out), float32: what `weight_only_linear`, or with
    `rounds` `dynamic_int8_linear`, gives and the steps make of it, to the bit. `others` are what the steps `Add` add:
    float32 of the output's shape, contiguous. No gradient goes through. Several threads may call at once.

    Args:
        panels: of the weight, as `panels()` makes them.
        in_features, out_features: the columns and rows of the weight.
        scale, bias, instruction_set: as of `weight_only_linear`.
        then: the steps, in order.
        rounds: whether each row of the input is rounded; `in` is at most 2²⁴ then.

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
        then: tuple[Step, ...] = (),
        rounds: bool = False,
        instruction_set: str | None = None,
    ) -> None:
        self._made_of = (panels, in_features, out_features, scale, bias, then, rounds, instruction_set)
        require_entries(in_features, ROUNDED if rounds else None)
        require_weight(panels, panels_shape(out_features, in_features), out_features, scale, bias)
        kernels, number = loaded(instruction_set)
        self._multiply = kernels.px_fused_float_linear
        self._how, self._panels = (number, int(rounds)), panels
        self._in_features, self._out_features = in_features, out_features
        self._epilogue = Epilogue(out_features, then, scale, bias)
        self._call = lru_cache(PLANS)(partial(_plan, in_features, out_features))

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """The output."""
        input = resolved("input", input)
        call, stride = self._call(input.shape), self._in_features
        if not input.is_contiguous():
            input = as_rows(input)
            stride = input.stride(0)
        others = self._epilogue.added(others, call.output)
        output = torch.empty(call.output, dtype=torch.float32, device=CPU)
        if not call.is_empty:
            self._multiply(
                *self._how, input.data_ptr(), call.rows, self._in_features, stride, self._panels.data_ptr(),
                self._out_features, self._epilogue.address, addresses(others), output.data_ptr(),
                torch.get_num_threads(),
            )  # fmt: skip
        return output


def _plan(in_features: int, out_features: int, shape: tuple[int, ...]) -> _Call:
    if shape[-1:] != (in_features,):
        raise ValueError(f"input must be (…, {in_features}); got {tuple(shape)}")
    output = (*shape[:-1], out_features)
    return _Call(prod(shape[:-1]), output, 0 in output)
