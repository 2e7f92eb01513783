"""Binarize PyTorch networks by ProxConnect++ and ship them as 1-bit models."""

from proxconnect.bop import Bop
from proxconnect.conversion import Plan, binarize, plan
from proxconnect.fusion import ProofError
from proxconnect.hardening import hard_state_dict, reestimate_batchnorm
from proxconnect.inspection import Meters, Summary, Trouble, diagnose, summary
from proxconnect.latents import clip_latents
from proxconnect.layers import (
    Accumulator,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryLinear,
    BinaryMultiheadAttention,
    add_thresholds,
    binarize_parameter,
)
from proxconnect.modes import full_precision, hard, soft
from proxconnect.overflow import OverflowPenalty
from proxconnect.packed import PackedFileError, save
from proxconnect.pairs import PAIRS, Heuristic, Pair
from proxconnect.quantizer import Quantizer
from proxconnect.rules import UpdateRule, post_training, proxquant, reverse_proxconnect
from proxconnect.runtime import load, pack
from proxconnect.sharpening import Sharpening

__version__ = "0.1.0"

__all__ = [
    "PAIRS",
    "Accumulator",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryConvTranspose1d",
    "BinaryConvTranspose2d",
    "BinaryConvTranspose3d",
    "BinaryLinear",
    "BinaryMultiheadAttention",
    "Bop",
    "Heuristic",
    "Meters",
    "OverflowPenalty",
    "PackedFileError",
    "Pair",
    "Plan",
    "ProofError",
    "Quantizer",
    "Sharpening",
    "Summary",
    "Trouble",
    "UpdateRule",
    "add_thresholds",
    "binarize",
    "binarize_parameter",
    "clip_latents",
    "diagnose",
    "full_precision",
    "hard",
    "hard_state_dict",
    "load",
    "pack",
    "plan",
    "post_training",
    "proxquant",
    "reestimate_batchnorm",
    "reverse_proxconnect",
    "save",
    "soft",
    "summary",
]
