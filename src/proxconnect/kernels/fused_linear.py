"""A product of signs with all that follows it up to the next layer, called without torch's dispatcher."""

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod

from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.entries import SIGNS, require_entries
from proxconnect.kernels.epilogue import PLANS, Bits, Epilogue, Layout, Signs, Step, words_and_nan
from proxconnect.kernels.operator import as_rows, loaded, require_weight, resolved
from proxconnect.kernels.panels import panels_shape
from proxconnect.kernels.remade import Remade


@dataclass(frozen=True, slots=True)
class _Call:
    """What the shape of an input says."""

    rows: int
    layout: Layout


class FusedLinear(Remade):
    """sign(input) times a weight of signs; the sums held, scaled and shifted, then through steps or as signs.

    Called with an input (…, in), float32 on the CPU, or with `Bits` of one. Returns (…, out), float32, or with `Signs`
    the `Bits` of it. `others` are what the steps `Add` add: float32 of the output's shape, contiguous. A row that holds
    NaN becomes NaN. No gradient goes through. Several threads may call at once.

    Args:
        panels: of the weight, as `panels()` makes them.
        in_features, out_features: the columns and rows of the weight.
        scale, bias, accumulator, instruction_set: as of `binary_linear`.
        then: the steps, in order, or which sums become +1.

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
        self._multiply = kernels.px_fused_linear
        self._panels = panels
        self._in_features, self._out_features = in_features, out_features
        self._epilogue = Epilogue(out_features, then, scale, bias, accumulator)
        self._call = lru_cache(PLANS)(partial(_plan, in_features, self._epilogue))

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """The output, floats or signs."""
        if isinstance(input, Bits):
            words, nan = words_and_nan(input)
            call = self._call(words.shape[:-1], input.channels)
            return self._run(call, (self._number, None, words.data_ptr(), nan), 0, others)
        input = resolved("input", input)
        *lead, entries = input.shape or (0,)
        call = self._call(tuple(lead), entries)
        rows = as_rows(input)
        return self._run(call, (self._number, rows.data_ptr(), None, None), rows.stride(0), others)

    def _run(
        self, call: _Call, source: tuple[int | None, ...], stride: int, others: tuple[Tensor, ...]
    ) -> Tensor | Bits:
        arguments = (*source, call.rows, self._in_features, stride, self._panels.data_ptr(), self._out_features)
        return self._epilogue.run(self._multiply, arguments, call.layout, others)


def _plan(in_features: int, epilogue: Epilogue, lead: tuple[int, ...], entries: int) -> _Call:
    if entries != in_features:
        raise ValueError(f"input must be (…, {in_features}); got (…, {entries})")
    return _Call(prod(lead), epilogue.layout(tuple(lead), ()))
