"""Binary layers: torch layers whose weights, and on request inputs, are ±1 up to a scale."""

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.attention import BinaryMultiheadAttention
from proxconnect.layers.base import BinaryLayer
from proxconnect.layers.converted import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryLinear,
    BinaryTransposedLinear,
    add_thresholds,
)
from proxconnect.layers.embedding import BinaryEmbedding
from proxconnect.layers.modes import full_precision, hard, soft
from proxconnect.layers.parameter import BinaryParameter, binarize_parameter
from proxconnect.layers.prelu import PReLU
from proxconnect.layers.react import RPReLU, Shift

__all__ = [
    "Accumulator",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryConvTranspose1d",
    "BinaryConvTranspose2d",
    "BinaryConvTranspose3d",
    "BinaryEmbedding",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryMultiheadAttention",
    "BinaryParameter",
    "BinaryTransposedLinear",
    "PReLU",
    "RPReLU",
    "Shift",
    "add_thresholds",
    "binarize_parameter",
    "full_precision",
    "hard",
    "soft",
]
