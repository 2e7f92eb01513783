"""Learned thresholds and scales of binary inputs, for all layers of a model."""

import torch
from torch import nn

from proxconnect._support.arguments import finite, require_module
from proxconnect.layers.base import BinaryLayer
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.input_set import SYMMETRIC, InputSet
from proxconnect.layers.left_out import expect_in_optimizer


def add_thresholds(model: nn.Module, start: float | None = None) -> nn.Module:
    """Give every layer with binary inputs a learned threshold per input channel, in place, and return the model.

    Such a layer adds its `input_shift` to its input first: the threshold of signs is -shift. It starts at `start`, by
    default where it is: at ½ for inputs of 0 and 1, and else at 0. A layer that learns its threshold keeps it.
    In-projections of `BinaryMultiheadAttention` get none.

    Call it after `binarize` and before you make the optimizer. Packed layers keep their shifts, so `load` takes the
    same float model as before.

    Args:
        model: a binary model.
        start: the threshold at first. Behind a ReLU, which leaves no negative values, it should be positive.

    Raises:
        ValueError: no layer has binary inputs, or only in-projections do, or `start` is infinite or NaN.
        TypeError: `model` is no module, or `start` no number.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> pc.add_thresholds(pc.binarize(model, "bnn++", "poly"))[1].input_shift
        Shift(8, dim=-1)
    """
    start = None if start is None else finite(start, "start")
    for layer in _with_binary_inputs(model, "add_thresholds(model)"):
        if layer.input_shift is not None and layer.input_shift.shift.requires_grad:
            continue
        if start is not None or layer.input_shift is None:
            with torch.inference_mode(False):  # so that it can be trained
                layer.input_shift = layer.new_shift(-(start or 0.0))
        layer.input_shift.requires_grad_(True)
        expect_in_optimizer(layer)
    return model


def add_input_scales(model: nn.Module) -> nn.Module:
    """Give every layer with binary inputs a learned scale of its input, in place, and return the model.

    The input becomes ±a, or 0 and 2a if it is 0 and 1 before; see `InputSet` for a. In-projections of
    `BinaryMultiheadAttention` get none. Call it after `binarize` and before you make the optimizer.

    Raises:
        ValueError: no layer has binary inputs, or only in-projections do.
        TypeError: `model` is no module.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> pc.add_input_scales(pc.binarize(model, "bnn++", "poly", input_values=(0, 1)))[2].input_set
        InputSet(0 and 2a, a learned from 0.5)
    """
    for layer in _with_binary_inputs(model, "add_input_scales(model)"):
        if layer.input_set is None:
            with torch.inference_mode(False):  # so that it can be trained
                layer.input_set = InputSet(SYMMETRIC, layer.latent.device, layer.latent.dtype)
        layer.input_set.requires_grad_(True)
        expect_in_optimizer(layer)
    return model


def _with_binary_inputs(model: nn.Module, caller: str) -> list[ConvertedLayer]:
    """Return the layers of `model` with binary inputs, without in-projections; ValueError if there is none."""
    require_module(model, caller)
    binary = [m for m in model.modules() if isinstance(m, BinaryLayer)]
    layers = [m for m in binary if isinstance(m, ConvertedLayer) and m.has_binary_input]
    if not layers and any(m.has_binary_input for m in binary):
        raise ValueError("only in-projections of attention have binary inputs, and these take no threshold and no "
                         "scale: make other layers binary too")  # fmt: skip
    if not layers:
        state = "no layer has binary inputs" if binary else "the model has no binary layer"
        raise ValueError(f'{state}: call binarize(model, weights, activations="poly") first')
    return layers
