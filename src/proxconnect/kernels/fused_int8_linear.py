"""A product of rounded rows with whole numbers and what follows it in one pass, called without torch's dispatcher."""

from functools import lru_cache, partial

import torch
from torch import Tensor

from proxconnect.kernels.entries import INT8, require_entries
from proxconnect.kernels.epilogue import PLANS, Epilogue, Layout, Step, addresses
from proxconnect.kernels.int8_panels import int8_panels_shape
from proxconnect.kernels.operator import CPU, as_rows, loaded, require_weight, resolved
from proxconnect.kernels.remade import Remade


class FusedInt8Linear(Remade):
    """`int8_linear` of an input, then through steps, to the bit.

    Called with an input (…, in), float32 on the CPU. Returns (…, out), float32. `others` are what the steps `Add` add:
    float32 of the output's shape, contiguous. No gradient goes through. Several threads may call at once.

    Args:
        panels, scale, bias, instruction_set: as of `int8_linear`.
        in_features, out_features: the columns, at most 2¹⁷, and the rows of the weight.
        then: the steps, in order.

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
        instruction_set: str | None = None,
    ) -> None:
        self._made_of = (panels, in_features, out_features, scale, bias, then, instruction_set)
        require_entries(in_features, INT8)
        require_weight(
            panels, int8_panels_shape((out_features, in_features)), out_features, scale, bias, torch.int8
        )  # fmt: skip
        kernels, self._number = loaded(instruction_set)
        self._multiply, self._panels = kernels.px_fused_int8_linear, panels
        self._in_features, self._out_features = in_features, out_features
        if bias is None:  # as `int8_linear` adds it, which makes 0 of -0
            bias = torch.zeros(out_features, dtype=torch.float32, device=CPU)
        self._epilogue = Epilogue(out_features, then, scale, bias)
        self._layout = lru_cache(PLANS)(partial(_layout, in_features, self._epilogue))

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """The output."""
        input = resolved("input", input)
        layout, rows = self._layout(input.shape), as_rows(input)
        others = self._epilogue.added(others, layout.shape)
        output = torch.empty(layout.shape, dtype=torch.float32, device=CPU)
        if not layout.is_empty:
            self._multiply(
                self._number, rows.data_ptr(), rows.shape[0], self._in_features, rows.stride(0),
                self._panels.data_ptr(), self._out_features, self._epilogue.address, addresses(others),
                output.data_ptr(), torch.get_num_threads(),
            )  # fmt: skip
        return output


def _layout(in_features: int, epilogue: Epilogue, shape: tuple[int, ...]) -> Layout:
    if shape[-1:] != (in_features,):
        raise ValueError(f"input must be (…, {in_features}); got {tuple(shape)}")
    return epilogue.layout(tuple(shape[:-1]), ())
