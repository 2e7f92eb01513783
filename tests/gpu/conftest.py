"""Kernels run in Triton's interpreter, on CPU tensors."""

import inspect
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    """Make Triton interpret kernels that are imported here, and its own functions, which torch may have imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        triton = pytest.importorskip("triton", reason="Triton is not installed")
        for name, function in inspect.getmembers(triton.language.standard):
            if isinstance(function, triton.runtime.jit.JITFunction):
                again = triton.jit(function.fn)
                for module in (triton.language, triton.language.standard):
                    if getattr(module, name, None) is function:
                        patch.setattr(module, name, again)
        forget_kernels()
        yield
        forget_kernels()


def forget_kernels() -> None:
    for name in [name for name in sys.modules if f"{name}.".startswith("proxconnect.gpu.")]:
        del sys.modules[name]
