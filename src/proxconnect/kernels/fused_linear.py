"""Multiply rows by a prepacked weight and apply an epilogue, in one pass."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import (
    CPU,
    INT8,
    ROUNDED,
    SIGNS,
    as_rows,
    is_of_groups,
    require_entries,
    require_weight,
    resolved,
)
from proxconnect.kernels.epilogue import PLANS, Bits, Epilogue, FusedKernel, Layout, words_and_nan
from proxconnect.kernels.library import loaded
from proxconnect.kernels.prepacked import int8_panels_shape, panels_shape
from proxconnect.kernels.steps import Signs, Step


class _FusedRows(FusedKernel):
    """Rows of floats times a prepacked weight, then an epilogue; the base of the kernels below."""

    def __init__(
        self, multiply: Callable[..., int], how: tuple[int, ...], panels: Tensor, sizes: tuple[int, int],
        epilogue: Epilogue,
    ) -> None:  # fmt: skip
        self._multiply, self._how, self._panels, self.epilogue = multiply, how, panels, epilogue
        self._in_features, self._out_features = sizes
        self._layout = lru_cache(PLANS)(partial(_layout, sizes[0], epilogue))

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        rows, layout, stride = self._rows(input)
        arguments = (*self._how, rows.data_ptr(), *self._weight(layout, stride))
        return cast(Tensor, self.epilogue.run(self._multiply, arguments, layout, others, nan=()))

    def _rows(self, input: Tensor) -> tuple[Tensor, Layout, int]:
        """Return the input with contiguous rows, the layout of the output, and the stride of the rows."""
        input = resolved("input", input)
        layout = self._layout(input.shape)
        if input.is_contiguous():
            return input, layout, self._in_features
        input = as_rows(input)
        return input, layout, input.stride(0)

    def _weight(self, layout: Layout, stride: int) -> tuple[int, ...]:
        return layout.rows, self._in_features, stride, self._panels.data_ptr(), self._out_features


class FusedLinear(_FusedRows):
    """A callable for `binary_linear` and epilogue steps in one pass, or for the signs of the sums.

    Call it with an input (…, in), float32 on the CPU or `Bits`, and the addends of the `Add` steps, which are float32,
    contiguous and have the output's shape. It returns (…, out) in float32, or `Bits` if `then` is `Signs`. A row that
    contains NaN becomes NaN. Gradients do not flow through.

    Args:
        panels: the prepacked weight, from `panels()`.
        in_features, out_features: the columns and rows of the weight.
        scale, bias, accumulator, instruction_set: as in `binary_linear`.
        then: the epilogue steps, in order, or `Signs`.

    Raises: as in `binary_linear`.
    """

    def __init__(
        self, panels: Tensor, in_features: int, out_features: int, scale: Tensor | None = None,
        bias: Tensor | None = None, accumulator: Accumulator | None = None, then: tuple[Step, ...] | Signs = (),
        instruction_set: str | None = None,
    ) -> None:  # fmt: skip
        require_entries(in_features, SIGNS)
        require_weight(panels, panels_shape(out_features, in_features), out_features, scale, bias)
        kernels, number = loaded(instruction_set)
        epilogue = Epilogue(out_features, then, scale, bias, accumulator)
        super().__init__(kernels.px_binary_linear, (number,), panels, (in_features, out_features), epilogue)

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:  # type: ignore[override]  # it gives bits too
        """Multiply the input and run the epilogue; return floats or bits. `others` are the addends."""
        if isinstance(input, Bits):
            words, nan = words_and_nan(input)
            layout, stride = self._layout((*words.shape[:-1], input.channels)), self._in_features
            source: tuple[int | None, ...] = None, words.data_ptr(), nan
        else:
            rows, layout, stride = self._rows(input)
            source = rows.data_ptr(), None, None
        arguments = (*self._how, *source, *self._weight(layout, stride))
        return self.epilogue.run(self._multiply, arguments, layout, others)


class FusedFloatLinear(_FusedRows):
    """A callable for `weight_only_linear` or `dynamic_int8_linear` and epilogue steps at once, bit-equal to two passes.

    Call it as `FusedLinear`, but without `Bits` and `Signs`.

    Args:
        panels, in_features, out_features, bias, then, instruction_set: as in `FusedLinear`.
        scale: as in `FusedLinear`, or that of `group_scales`.
        rounds: True for `dynamic_int8_linear`, which takes at most 2²⁴ input features.

    Raises: as in `binary_linear`.
    """

    def __init__(
        self, panels: Tensor, in_features: int, out_features: int, scale: Tensor | None = None,
        bias: Tensor | None = None, then: tuple[Step, ...] = (), rounds: bool = False,
        instruction_set: str | None = None,
    ) -> None:  # fmt: skip
        require_entries(in_features, ROUNDED if rounds else None)
        shape = panels_shape(out_features, in_features)
        require_weight(panels, shape, out_features, scale, bias, columns=in_features)
        kernels, number = loaded(instruction_set)
        in_groups = is_of_groups(scale, out_features)
        epilogue = Epilogue(out_features, then, None if in_groups else scale, bias)
        if scale is not None and in_groups:
            epilogue.scale_groups(scale, in_features)
        how, sizes = (number, int(rounds)), (in_features, out_features)
        super().__init__(kernels.px_weight_only_linear, how, panels, sizes, epilogue)


class FusedInt8Linear(_FusedRows):
    """A callable for `int8_linear` and epilogue steps at once, bit-equal to two passes.

    Call it as `FusedLinear`, but without `Bits` and `Signs`.

    Args:
        panels: the prepacked weight, from `int8_panels()`.
        in_features: the columns of the weight, at most 2¹⁷.
        out_features, scale, bias, then, instruction_set: as in `FusedLinear`.

    Raises: as in `binary_linear`.
    """

    def __init__(
        self, panels: Tensor, in_features: int, out_features: int, scale: Tensor | None = None,
        bias: Tensor | None = None, then: tuple[Step, ...] = (), instruction_set: str | None = None,
    ) -> None:  # fmt: skip
        require_entries(in_features, INT8)
        shape = int8_panels_shape((out_features, in_features))
        require_weight(panels, shape, out_features, scale, bias, torch.int8)
        kernels, number = loaded(instruction_set)
        if bias is None:  # as `int8_linear` adds it, which makes 0 of -0
            bias = torch.zeros(out_features, dtype=torch.float32, device=CPU)
        epilogue = Epilogue(out_features, then, scale, bias)
        super().__init__(kernels.px_int8_linear, (number,), panels, (in_features, out_features), epilogue)


def _layout(in_features: int, epilogue: Epilogue, shape: Sequence[int]) -> Layout:
    """Return the layout of the output for an input of this shape; ValueError unless it is (…, in_features)."""
    if tuple(shape[-1:]) != (in_features,):
        raise ValueError(f"input must be (…, {in_features}); got {tuple(shape)}")
    return epilogue.layout(tuple(shape[:-1]), ())
