"""Binarize PyTorch networks by ProxConnect++ and ship them as 1-bit models."""

from proxconnect.layers import BinaryConv2d, BinaryLinear
from proxconnect.modes import full_precision, hard
from proxconnect.pairs import PAIRS, Heuristic, Pair
from proxconnect.quantizer import Quantizer

__version__ = "0.1.0"

__all__ = [
    "PAIRS",
    "BinaryConv2d",
    "BinaryLinear",
    "Heuristic",
    "Pair",
    "Quantizer",
    "full_precision",
    "hard",
]
