"""Models as graphs of torch's operators, for a batch of any size."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_map, tree_map_only

from proxconnect._support.example import arguments


class ExportError(ValueError):
    """A model that another runtime cannot take; the message says why and what to do."""


def traced(model: nn.Module, example: Any, *, any_batch: bool) -> ExportedProgram:
    """Trace a model with `torch.export` for inputs like the example; ExportError if that fails.

    With `any_batch` the first dimension of every tensor in the example is the batch, and its size is left open.
    """
    args, kwargs = arguments(model, _with_two(example) if any_batch else example)
    sizes = None
    if any_batch:
        bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
        sizes = {name: tree_map(_open_batch, value) for name, value in bound.items()}
    try:
        with torch.no_grad():
            return torch.export.export(model, args, kwargs, dynamic_shapes=sizes, strict=False)
    except Exception as error:  # the code of the model may raise anything when it is traced
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        batch = "; for batches of the example's size alone, pass any_batch=False" if any_batch else ""
        raise ExportError(
            f"torch.export makes no graph of {type(model).__name__}: {reason} (a forward must not decide by the values "
            f"of tensors{batch})"
        ) from error


def _with_two(example: Any) -> Any:
    """Double a batch of 1, a size that torch.export would take for a constant."""
    return tree_map_only(Tensor, lambda t: torch.cat([t, t]) if t.dim() and t.shape[0] == 1 else t, example)


def _open_batch(value: Any) -> dict[int, Any] | None:
    return {0: Dim.DYNAMIC} if isinstance(value, Tensor) and value.dim() else None
