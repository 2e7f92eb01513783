"""Binary layers: torch's layers whose weights, and inputs if wished, are ±1 up to a scale."""

from proxconnect.layers.base import BinaryLayer
from proxconnect.layers.conv import BinaryConv2d
from proxconnect.layers.linear import BinaryLinear

__all__ = ["BinaryConv2d", "BinaryLayer", "BinaryLinear"]
