"""A penalty on sums that exceed a narrow accumulator."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import require_module
from proxconnect.layers import BinaryLayer


class OverflowPenalty:
    """The overflow penalty of WrapNet (Ni 2021, arXiv 2007.13242): the excess of sums z over the accumulators' range.

    Add it to the loss: `criterion(model(x), y) + strength * penalty()`. `penalty()` is mean (|z|/M - 1)₊ with
    M = 2^(bits-1), summed over layers and their forward passes in `train()` since the last call. It is a differentiable
    scalar in float32 or wider. Call it once per step, because it keeps the sums of each pass until then. `remove()`, or
    the end of a `with`, ends it.

    Passes without gradients do not count. Activation checkpointing counts once with `use_reentrant=False`, and not at
    all with `use_reentrant=True`, which runs without gradients.

    Raises:
        ValueError: no layer of `model` has an accumulator, or one has a penalty already.
        TypeError: `model` is no module.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> model = pc.binarize(model, "bc", "poly", accumulator=pc.Accumulator(bits=2))
        >>> penalty = pc.OverflowPenalty(model)
        >>> loss = model(torch.randn(16, 4)).square().mean()
        >>> bool(penalty() > 0)
        True
    """

    def __init__(self, model: nn.Module) -> None:
        require_module(model, "OverflowPenalty(model)")
        self._layers = [m for m in model.modules() if isinstance(m, BinaryLayer) and m.accumulator is not None]
        if not self._layers:
            raise ValueError(
                f"no layer of this {type(model).__name__} has an accumulator: pass accumulator=Accumulator(bits=8) and "
                "activations to binarize()"
            )
        if any(layer.excesses is not None for layer in self._layers):
            raise ValueError("a layer of this model has an OverflowPenalty already: call its remove() first")
        for layer in self._layers:
            layer.excesses = []

    def __call__(self) -> Tensor:
        """Return the penalty of the training passes since the last call, 0 without any, and start again at 0."""
        excesses = [excess for layer in self._layers for excess in layer.excesses or ()]
        for layer in self._layers:
            layer.excesses = []
        return torch.stack(excesses).sum() if excesses else torch.zeros(())

    def remove(self) -> None:
        """End the penalty: forward passes add nothing to it any more, and its value is 0."""
        for layer in self._layers:
            layer.excesses = None
        self._layers = []  # a later penalty of these layers is not this one's

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()
