"""Tell if Triton, in which the kernels for GPUs are written, is installed."""

from functools import cache
from importlib.util import find_spec


@cache
def has_triton() -> bool:
    """Return True if triton can be imported."""
    return find_spec("triton") is not None
