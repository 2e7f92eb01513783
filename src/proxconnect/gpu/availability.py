"""Whether the kernels for GPUs can be imported."""

from functools import cache


@cache
def has_triton() -> bool:
    """Return True if `triton` can be imported. PyTorch's builds for CUDA and ROCm on Linux bring it along."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True
