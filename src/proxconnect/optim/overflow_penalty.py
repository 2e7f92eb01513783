"""A penalty on sums that a narrow accumulator cannot hold."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import require_module
from proxconnect.layers import BinaryLayer


class OverflowPenalty:
    """The overflow penalty of WrapNet (Ni 2021, arXiv 2007.13242): how far sums z are beyond what accumulators hold.

    `loss = criterion(model(x), y) + strength * penalty()`, where `penalty()` is the sum of mean (|z|/M - 1)₊, with
    M = 2^(bits-1), over layers and their forward passes in `train()` since the last call. It is differentiable; call it
    once a step, since until then the sums of each pass are kept. `remove()`, or the end of a `with`, ends it.

    It is a scalar in float32 or wider. Passes without gradients do not count, nor does what activation checkpointing
    repeats; checkpoints with `use_reentrant=True` run without gradients and so are not seen at all.

    ValueError where no layer of `model` has an accumulator, or one has a penalty already.

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
        """The penalty, a scalar, since the last call; 0 where nothing ran."""
        excesses = []
        for layer in self._layers:
            if layer.excesses is not None:
                excesses += layer.excesses
                layer.excesses = []
        return torch.stack(excesses).sum() if excesses else torch.zeros(())

    def remove(self) -> None:
        """Keep no sums from now on."""
        for layer in self._layers:
            layer.excesses = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()
