"""Files are written many times in one process."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="package", autouse=True)
def translations_made_once() -> Iterator[None]:
    """Keep the tables of all operators, which torch makes again for each file: they take longer than a small network.

    Each export gets its own copy of the table of translations, because `custom_translation_table` adds to it.
    """
    from torch._export import utils
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    made = functools.cache(ONNXRegistry.from_torchlib)

    def copied(*args: Any, **options: Any) -> ONNXRegistry:
        table, registry = made(*args, **options), ONNXRegistry()
        vars(registry).update(vars(table), functions={target: [*found] for target, found in table.functions.items()})
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copied))
        patch.setattr(utils, "_materialize_cpp_cia_ops", functools.cache(utils._materialize_cpp_cia_ops))
        yield
