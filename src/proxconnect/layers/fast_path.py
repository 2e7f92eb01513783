"""Transformer modules of torch without their fast paths, which bypass the forward of their layers.

In `eval()` without gradients, a fast path takes all weights of an encoder layer at once, and makes nested tensors.
"""

from torch import nn

from proxconnect.layers.attention import BinaryMultiheadAttention


class StepwiseEncoderLayer(nn.TransformerEncoderLayer):
    """`nn.TransformerEncoderLayer` without its fast path, so that it calls every layer inside it, also in `eval()`."""

    activation_relu_or_gelu = 0  # torch's value for an activation that the fast path does not know


def call_every_layer(model: nn.Module) -> None:
    """Switch off, in place, the fast paths of torch's transformer modules that hold a layer with `must_be_called`."""
    for module in list(model.modules()):
        if type(module) is nn.MultiheadAttention and _must_call(module):
            module.__class__ = BinaryMultiheadAttention
        if type(module) is nn.TransformerEncoderLayer and _must_call(module):
            module.__dict__.pop("activation_relu_or_gelu", None)
            module.__class__ = StepwiseEncoderLayer
        if isinstance(module, nn.TransformerEncoder) and _must_call(module):
            module.enable_nested_tensor = module.use_nested_tensor = False


def _must_call(module: nn.Module) -> bool:
    return any(getattr(m, "must_be_called", False) for m in module.modules())
