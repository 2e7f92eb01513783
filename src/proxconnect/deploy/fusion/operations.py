"""The table of fused operations."""

from proxconnect.deploy.fusion.attention import Attention
from proxconnect.deploy.fusion.batch_norms import ImageNorm
from proxconnect.deploy.fusion.binary_products import BinaryProduct
from proxconnect.deploy.fusion.gelu import OverwritingGelu
from proxconnect.deploy.fusion.image_convs import FloatConv, Int8Conv
from proxconnect.deploy.fusion.int8_linear import Int8Rows
from proxconnect.deploy.fusion.operation import Operation

OPERATIONS: tuple[type[Operation], ...] = (
    BinaryProduct, OverwritingGelu, Int8Rows, Int8Conv, FloatConv, ImageNorm, Attention,
)  # fmt: skip
"""In the order in which they look for nodes: the first one that matches takes them."""
