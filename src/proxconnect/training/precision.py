"""The precision of a run, and the processors that have no instructions for it."""

import platform

import lightning
import torch
from lightning.pytorch.accelerators.cpu import CPUAccelerator
from lightning.pytorch.utilities import rank_zero_warn


def warn_of_slow_bfloat16(trainer: lightning.Trainer) -> None:
    """Warn if the products of a run on this CPU are in bfloat16, which it can only compute by way of float32."""
    is_asked = isinstance(trainer.accelerator, CPUAccelerator) and str(trainer.precision).startswith("bf16")
    if is_asked and not multiplies_bfloat16():
        rank_zero_warn(
            "This processor has no instructions for bfloat16 (AVX512_BF16), so training takes several times as long as "
            "in float32. Leave --trainer.precision out.",
            category=UserWarning,
        )


def multiplies_bfloat16() -> bool:
    """Return False if this is an x86 processor without AVX512_BF16; others are not asked."""
    return platform.machine().lower() not in ("x86_64", "amd64") or torch.cpu._is_avx512_bf16_supported()
