"""Kernels run in Triton's interpreter, on CPU tensors."""

import inspect
import os
import sys

import pytest


@pytest.fixture(scope="session", autouse=True)
def interpreted() -> None:
    """Make Triton interpret kernels that are imported from now on, and its own functions if torch imported them."""
    os.environ["TRITON_INTERPRET"] = "1"
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    for name in [name for name in sys.modules if name.startswith("proxconnect.gpu.")]:
        del sys.modules[name]
    for name, function in inspect.getmembers(triton.language.standard):
        if isinstance(function, triton.runtime.jit.JITFunction):
            again = triton.jit(function.fn)
            for module in (triton.language, triton.language.standard):
                if getattr(module, name, None) is function:
                    setattr(module, name, again)
