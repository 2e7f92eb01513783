"""Files are written many times in one process."""

import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def translations_made_once() -> Iterator[None]:
    """torch.onnx makes its table of all operators anew for each file, which takes longer than a small network does."""
    from torch.onnx._internal.exporter import _registration

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(_registration.onnxscript_apis.get_torchlib_ops)
        patch.setattr(_registration.onnxscript_apis, "get_torchlib_ops", once)
        yield
