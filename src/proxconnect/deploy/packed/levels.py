"""What layers of 8-bit weights share, by which a binary network may hold what stays float in it."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from proxconnect.deploy.packed.compact import CompactLayer


class Int8Layer(CompactLayer):
    """Mixin over a float layer of torch's: its weight is `scale · levels`.

    `levels` is int8, of the weight's shape and within ±127; `scale` is of shape (out,), max|w| / 127 of each output
    channel (of an embedding each row), so that an entry of the weight is off by at most scale / 2.
    """

    held = "levels"
    own_state = ("levels", "scale")
    levels: Tensor
    float_type: ClassVar[type[nn.Module]]
    """The class of the float layer, subclasses excepted."""

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """The float layer's class for itself alone."""
        return cls.float_type if candidate is cls.float_type else None

    @classmethod
    def float_name(cls) -> str:
        """The name of the float layer's class."""
        return cls.float_type.__name__

    def fault(self) -> str:
        """As of every compact layer, and of scales and levels that are no scales and levels."""
        if bool((self.scale < 0).any()):
            return "a scale is negative"
        return "a weight is -128, beyond ±127" if bool((self.levels == -128).any()) else super().fault()

    def exact_and_bound(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
        """What the float layer of this weight answers, in float64, and how far this one may be off, entry by entry."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The float layer's, and what is packed."""
        return f"{super().extra_repr()}, 8 bits"

    def _numbers(self) -> Tensor:
        return self.levels.to(self.scale.dtype)


def levels_of(weight: Tensor, scale: Tensor) -> Tensor:
    """The whole numbers within ±127 that are nearest to weight / scale, one of each output; halves go to even."""
    steps = scale.double().view(-1, *(1,) * (weight.dim() - 1))
    levels = torch.where(steps > 0, weight.double() / steps, 0.0)
    return levels.round_().clamp_(-127, 127).to(torch.int8)


def scale_of(weight: Tensor) -> Tensor:
    """max|w| / 127 of each output, (out,), in the weight's dtype; 0 for weights of 0."""
    return (weight.double().abs().flatten(1).amax(1) / 127).to(weight.dtype)


@torch.no_grad()
def error(layer: Int8Layer, float_layer: nn.Module, input: Tensor) -> tuple[float, float]:
    """How far an 8-bit layer is from its float one on an input, and how far it may be, relative to the largest output.

    Returns max|y − y'| and the largest bound of an output, as its class states it, both over max|y'|, where y' is the
    float layer's output in float64. ValueError where there is no output other than 0.
    """
    weight, bias = float_layer.weight, getattr(float_layer, "bias", None)
    assert isinstance(weight, Tensor)
    exact, bound = layer.exact_and_bound(weight.double(), None if bias is None else bias.double(), input)
    largest = exact.abs().max() if exact.numel() else torch.zeros(())
    if not largest > 0:
        raise ValueError("an error is relative to the largest output, and there is none but 0: pass another input")
    return float((layer(input).double() - exact).abs().max() / largest), float(bound.max() / largest)
