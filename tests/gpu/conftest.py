"""Run the kernels for GPUs by Triton's interpreter, on tensors of the CPU."""

import pytest


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Triton interpret: it decides so when a kernel's module is first imported, and asks again when one runs.

    Its own functions, such as `tl.sum`, were decided on when another test imported triton, and so are replaced.
    """
    triton = pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="numpy, which it needs, is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for module in (triton.language, triton.language.standard):
        for name, function in list(vars(module).items()):
            if isinstance(function, triton.JITFunction):
                monkeypatch.setattr(module, name, interpreter.InterpretedFunction(function.fn))
