"""What keeps torch's transformer modules from passing by the forward of layers that do more there than multiply.

Their fast paths, in `eval()` without gradients, take all weights of an encoder layer at once, and nested tensors.
"""

from torch import nn

from proxconnect.layers.attention import BinaryMultiheadAttention


class StepwiseEncoderLayer(nn.TransformerEncoderLayer):
    """`nn.TransformerEncoderLayer` without its fast path, which in `eval()` takes weights past its layers' forward.

    0 is what torch has there for an activation that its fast path does not know.
    """

    activation_relu_or_gelu = 0


def call_every_layer(model: nn.Module) -> None:
    """Have torch's transformer modules call their layers where one of those must be called, in place."""
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
