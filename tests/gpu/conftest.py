"""Run the kernels for GPUs by Triton's interpreter, on tensors of the CPU."""

import pytest


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Triton interpret: it decides so when a kernel's module is first imported, and asks again when one runs."""
    pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
