"""Binarize PyTorch networks by ProxConnect++ and ship them as 1-bit models."""

from proxconnect.conversion import Plan, binarize, plan
from proxconnect.hardening import hard_state_dict, reestimate_batchnorm
from proxconnect.inspection import Summary, summary
from proxconnect.latents import clip_latents
from proxconnect.layers import BinaryConv2d, BinaryLinear
from proxconnect.modes import full_precision, hard
from proxconnect.packed import PackedFileError, load, pack, save
from proxconnect.pairs import PAIRS, Heuristic, Pair
from proxconnect.quantizer import Quantizer
from proxconnect.sharpening import Sharpening

__version__ = "0.1.0"

__all__ = [
    "PAIRS",
    "BinaryConv2d",
    "BinaryLinear",
    "Heuristic",
    "PackedFileError",
    "Pair",
    "Plan",
    "Quantizer",
    "Sharpening",
    "Summary",
    "binarize",
    "clip_latents",
    "full_precision",
    "hard",
    "hard_state_dict",
    "load",
    "pack",
    "plan",
    "reestimate_batchnorm",
    "save",
    "summary",
]
