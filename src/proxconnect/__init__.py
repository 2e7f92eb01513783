"""Binarize PyTorch networks by ProxConnect++ and ship them as 1-bit models.

The subpackages `export`, `huggingface`, `theory` and `training` are imported when they are first used.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from proxconnect._support import at_start  # noqa: F401  # before all that imports torch
from proxconnect.conversion import Plan, binarize, plan
from proxconnect.deploy import (
    PackedFileError,
    ProofError,
    hard_state_dict,
    load,
    pack,
    reestimate_batchnorm,
    save,
)
from proxconnect.inspection import Meters, Summary, Trouble, diagnose, summary
from proxconnect.layers import (
    Accumulator,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryEmbedding,
    BinaryLinear,
    BinaryMultiheadAttention,
    add_thresholds,
    binarize_parameter,
    full_precision,
    hard,
    soft,
)
from proxconnect.optim import (
    Bop,
    OverflowPenalty,
    Sharpening,
    UpdateRule,
    clip_latents,
    post_training,
    proxquant,
    reverse_proxconnect,
)
from proxconnect.pairs import PAIRS, Heuristic, Pair
from proxconnect.quantizer import Quantizer
from proxconnect.version import __version__ as __version__

if TYPE_CHECKING:
    from proxconnect import export as export
    from proxconnect import huggingface as huggingface
    from proxconnect import theory as theory
    from proxconnect import training as training
else:
    _LATE = ("export", "huggingface", "theory", "training")

    def __getattr__(name: str) -> ModuleType:
        if name not in _LATE:
            raise AttributeError(f"module 'proxconnect' has no attribute {name!r}")
        return import_module(f"proxconnect.{name}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATE})


__all__ = [
    "PAIRS",
    "Accumulator",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryConvTranspose1d",
    "BinaryConvTranspose2d",
    "BinaryConvTranspose3d",
    "BinaryEmbedding",
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
