"""Whether the kernels for GPUs run on a device."""

import warnings
from functools import cache

import torch

from proxconnect._support.installation import pip_install

OLDEST = 8, 0
"""The oldest compute capability that Triton supports and whose tensor cores multiply bfloat16: Ampere's."""


@cache
def runs_on(device: torch.device) -> bool:
    """Return True for a GPU that Triton supports, if Triton is installed; warn once of a GPU without Triton.

    A GPU that this machine lacks counts as one that Triton supports, because a program may be exported for it.
    """
    if device.type != "cuda":
        return False
    if not has_triton():
        warnings.warn(
            "triton is not installed, so that on a GPU training quantizes by many small operations of torch, and "
            f"packed layers unpack their weights for each call; run: {pip_install('gpu')}",
            stacklevel=2,
        )
        return False
    is_nvidia = torch.version.hip is None and torch.cuda.is_available()
    return not is_nvidia or torch.cuda.get_device_capability(device) >= OLDEST


def has_triton() -> bool:
    """Return True if `triton` can be imported. PyTorch's builds for CUDA and ROCm on Linux bring it along."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True
