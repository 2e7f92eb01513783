"""The two values that binary inputs take: -a and a, or 0 and 2a, where a may be learned (BiT's elastic sets)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from proxconnect.layers.products import Product

InputValues = tuple[int, int]
"""The values of binary inputs: (-1, 1) or (0, 1)."""

SYMMETRIC, ZERO_ONE = (-1, 1), (0, 1)

HALF = 0.5
"""The scale a and the threshold of inputs in {0, 1}, until they are learned: such inputs are rounded."""


def require_input_values(values: object) -> InputValues:
    """Return (-1, 1) or (0, 1), given as a tuple or a list; ValueError for others."""
    for known in (SYMMETRIC, ZERO_ONE):
        if isinstance(values, tuple | list) and tuple(values) == known:
            return known
    raise ValueError(f"input_values must be (-1, 1) or (0, 1); got {values!r}")


class InputSet(nn.Module):
    """The values of binary inputs: a·(F(x/a) + offset), with offset 0 for -a and a, or 1 for 0 and 2a.

    The scale is a = start·exp(`log_scale`), with start 1 for offset 0 and ½ for offset 1. Here x is the input after its
    shift. See Liu 2022 (arXiv 2205.13016), whose α is 2a for the values 0 and α.

    Args:
        values: (-1, 1) or (0, 1): the values if a is not learned.
        device, dtype: those of the parameter `log_scale`, of shape (1,), and of the buffer `offset`, of shape ().
    """

    offset: Tensor

    def __init__(self, values: InputValues, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.takes_zero = values == ZERO_ONE
        self.start = HALF if self.takes_zero else 1.0
        self.log_scale = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        self.register_buffer("offset", torch.tensor(float(self.takes_zero), device=device, dtype=dtype))

    @property
    def scale(self) -> Tensor:
        """The scale a, of shape (1,), in float32 or wider."""
        wide = torch.promote_types(self.log_scale.dtype, torch.float32)
        return self.start * self.log_scale.to(wide).exp()

    def values(self) -> tuple[float, float]:
        """Return the two values of the inputs, the smaller one first."""
        scale = float(self.scale.detach())
        return (0.0, 2 * scale) if self.takes_zero else (-scale, scale)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        loaded = state_dict.get(f"{prefix}offset")
        if isinstance(loaded, Tensor) and not loaded.is_meta and bool(loaded != self.takes_zero):
            mine, theirs = ("0 and 1", "-1 and 1") if self.takes_zero else ("-1 and 1", "0 and 1")
            args[-1].append(f"{prefix}offset: the inputs are {theirs} in the state dict, but {mine} in the layer")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Return the text that `repr` shows: the values, and whether they are learned."""
        low, high = ("0", "2a") if self.takes_zero else ("-a", "a")
        return f"{low} and {high}, a {'learned from' if self.log_scale.requires_grad else 'is'} {self.start:g}"


def folded(
    layer: "Product", scale: Tensor, takes_zero: bool, weight: Tensor, alpha: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Fold the values of binary inputs into the arguments `weight`, `alpha` and `bias` of `layer.product`.

    The product of ±1 is then that of -a and a, or of 0 and 2a if `takes_zero`: Σ w·a(s + 1) = a(Σ w·s + Σ w). A
    convolution must pad with -1 for the latter. `scale` is a, of shape (1,).
    """
    if layer.scales_sums:
        alpha = scale if alpha is None else alpha.reshape(-1).to(scale.dtype) * scale
    else:
        weight = weight * scale.to(weight.dtype)
    if not takes_zero:
        return weight, alpha, bias
    sums = channel_sums(layer, weight)
    offset = sums if alpha is None else alpha * sums.to(alpha.dtype)
    return weight, alpha, offset if bias is None else bias + offset


def channel_sums(layer: "Product", weight: Tensor) -> Tensor:
    """Return the sum of the weights of each output channel, (out,), in the dtype of `weight`, or int64 for integers."""
    view = layer.by_channel(weight)
    return view.sum([d for d in range(view.dim()) if d not in layer.channel_dims]).flatten()
