"""Layer norms of rows, without torch's dispatcher."""

import ctypes

import torch
from torch import Tensor

from proxconnect.kernels.arguments import CPU, require_vector, resolved
from proxconnect.kernels.epilogue import FusedKernel
from proxconnect.kernels.library import CLayerNorm, loaded


class LayerNorm(FusedKernel):
    """A callable for the layer norm over the last dimension, with sums in another order than torch's.

    Call it with x, float32 on the CPU, (…, width) and contiguous. It returns a tensor like x. Gradients do not flow
    through.

    Args:
        width: the entries of a row, at least 1.
        weight, bias: float32 on the CPU, (width,); copied. None for a weight of 1, and for no bias.
        eps: added to the variance.
        instruction_set: one of `instruction_sets()`, by default the best.

    Raises: as in `binary_linear`, and ValueError for another layout.
    """

    def __init__(
        self, width: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
        instruction_set: str | None = None,
    ) -> None:  # fmt: skip
        if width < 1:
            raise ValueError(f"a row (…, width) must have entries; got width {width}")
        kernels, self._number = loaded(instruction_set)
        self._call, self._width = kernels.px_layer_norm, width
        weight = torch.ones(width, dtype=torch.float32, device=CPU) if weight is None else weight
        bias = torch.full((width,), -0.0, dtype=torch.float32, device=CPU) if bias is None else bias
        for name, values in (("weight", weight), ("bias", bias)):
            require_vector(name, values, width)
        self._weight, self._bias = (values.detach().reshape(-1).clone() for values in (weight, bias))
        self._norm = CLayerNorm(width, self._weight.data_ptr(), self._bias.data_ptr(), eps)
        self._address = ctypes.addressof(self._norm)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the norms of the rows of x."""
        x = resolved("x", x)
        if x.shape[-1:] != (self._width,) or not x.is_contiguous():
            raise ValueError(
                f"x must be (…, {self._width}) and contiguous; got {tuple(x.shape)} with strides {x.stride()}"
            )
        y = torch.empty_like(x)
        rows = x.numel() // self._width
        self._call(self._number, x.data_ptr(), rows, self._address, y.data_ptr(), torch.get_num_threads())
        return y
