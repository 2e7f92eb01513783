"""Kernels run in Triton's interpreter, on CPU tensors."""

import inspect
import sys
from collections.abc import Iterator

import pytest

import proxconnect.gpu


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    """Make Triton interpret kernels that are imported here, and its own functions, which torch may have imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        triton = pytest.importorskip("triton", reason="Triton is not installed")
        pytest.importorskip("triton.runtime.interpreter", reason="numpy, which Triton's interpreter needs, is missing")
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
    """Let the next import make kernels anew; `operators`, which has none, registers with torch once."""
    for name, module in list(sys.modules.items()):
        if name.startswith("proxconnect.gpu.") and "triton" in vars(module):
            del sys.modules[name]
            delattr(proxconnect.gpu, name.rpartition(".")[2])
