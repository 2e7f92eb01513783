"""Whether the kernels for GPUs can be imported."""

from functools import cache
from importlib.util import find_spec


@cache
def has_triton() -> bool:
    """Return True if `triton` is installed. PyTorch's builds for CUDA and ROCm on Linux bring it along."""
    return find_spec("triton") is not None
