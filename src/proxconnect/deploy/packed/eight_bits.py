"""The 8-bit forms of float layers."""

from torch import nn

from proxconnect.deploy.packed.embedding import Int8Embedding
from proxconnect.deploy.packed.geometry import geometry_of
from proxconnect.deploy.packed.int8 import Int8Conv2d, Int8Linear
from proxconnect.deploy.packed.levels import Int8Layer
from proxconnect.deploy.packed.spec import LayerSpec

INT8: dict[type[nn.Module], type[Int8Layer]] = {
    form.float_type: form for form in (Int8Linear, Int8Conv2d, Int8Embedding)
}
"""The 8-bit form of a float layer, by its exact class."""


def int8_spec(layer: nn.Module) -> LayerSpec:
    """What the 8-bit form of a layer of these classes is."""
    weight = layer._parameters["weight"]
    assert weight is not None
    return LayerSpec(
        INT8[type(layer)].kind, tuple(weight.shape), "channel", weight.dtype, False, None, 0, geometry_of(layer), None
    )
