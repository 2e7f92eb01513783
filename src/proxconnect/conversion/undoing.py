"""Changes of a model that are undone if one of them fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from proxconnect.layers.base import BinaryLayer, forget

_REGISTRIES = ("_parameters", "_buffers", "_modules")


@contextmanager
def unchanged_on_error(model: nn.Module) -> Iterator[None]:
    """On any exception give each module of `model` back its class, attributes, parameters, buffers and children."""
    before = [(module, type(module), _contents(module)) for module in model.modules()]
    try:
        yield
    except BaseException:
        for module, cls, contents in before:
            if isinstance(module, BinaryLayer):
                forget(module)
            object.__setattr__(module, "__class__", cls)
            for holder, content in contents:
                holder.clear()
                holder.update(content)
        raise


def _contents(module: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the dictionaries of a module, its attributes and its registries, each with a copy."""
    own = vars(module)
    return [(holder, dict(holder)) for holder in (own, *(own[name] for name in _REGISTRIES))]
