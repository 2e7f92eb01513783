"""Learned thresholds of binary inputs: ReActNet's RSign (Liu 2020, arXiv 2003.03488) in any binary network."""

from torch import nn

from proxconnect._support.arguments import require_module
from proxconnect.layers.base import BinaryLayer
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.react import Shift


def add_thresholds(model: nn.Module) -> nn.Module:
    """Let every binary layer with binary inputs learn where their signs change, in place, and return the model.

    Such a layer then adds its `input_shift`, a number for each channel of its input that is 0 at first, before it takes
    the signs: the threshold is -shift. Call it after `binarize` and before an optimizer is made. Packed layers keep
    their shifts, so that `load` takes the same float model as without. A layer that has one keeps it. In-projections of
    `BinaryMultiheadAttention` get none.

    ValueError without a layer of binary inputs.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> pc.add_thresholds(pc.binarize(model, "bnn++", "poly"))[1].input_shift
        Shift(8, dim=-1)
    """
    require_module(model, "add_thresholds(model)")
    layers = [m for m in model.modules() if isinstance(m, ConvertedLayer) and m.has_binary_input]
    if not layers:
        raise ValueError(_missing(model))
    for layer in layers:
        if layer.input_shift is None:
            channels = layer.input_channels(tuple(layer.latent.shape))
            layer.input_shift = Shift(channels, layer.output_axis, layer.latent.device, layer.latent.dtype)
    return model


def _missing(model: nn.Module) -> str:
    if any(isinstance(m, BinaryLayer) for m in model.modules()):
        return 'no layer has binary inputs: call binarize(model, weights, activations="poly")'
    return 'the model has no binary layer: call binarize(model, weights, activations="poly") first'
