"""Learned thresholds of binary inputs: ReActNet's RSign (Liu 2020, arXiv 2003.03488) for any binary network."""

from torch import nn

from proxconnect._support.arguments import require_module
from proxconnect.layers.base import BinaryLayer
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.react import Shift


def add_thresholds(model: nn.Module) -> nn.Module:
    """Give every layer with binary inputs a learned threshold per input channel, in place, and return the model.

    Such a layer adds its `input_shift`, which starts at 0, before it takes signs: the threshold is -shift. A layer that
    has a shift keeps it. In-projections of `BinaryMultiheadAttention` get none.

    Call it after `binarize` and before you make the optimizer. Packed layers keep their shifts, so `load` takes the
    same float model as before.

    Raises:
        ValueError: no layer has binary inputs.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> pc.add_thresholds(pc.binarize(model, "bnn++", "poly"))[1].input_shift
        Shift(8, dim=-1)
    """
    require_module(model, "add_thresholds(model)")
    layers = [m for m in model.modules() if isinstance(m, ConvertedLayer) and m.has_binary_input]
    if not layers:
        is_binary = any(isinstance(m, BinaryLayer) for m in model.modules())
        state = "no layer has binary inputs" if is_binary else "the model has no binary layer"
        raise ValueError(f'{state}: call binarize(model, weights, activations="poly") first')
    for layer in layers:
        if layer.input_shift is None:
            channels = layer.input_channels(tuple(layer.latent.shape))
            layer.input_shift = Shift(channels, layer.output_axis, layer.latent.device, layer.latent.dtype)
    return model
