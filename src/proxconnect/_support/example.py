"""Runs of a model on an example input that leave no trace in the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


def run(model: nn.Module, example: Any) -> Any:
    """Return the output of `model` for `example`, unpacked by `arguments`, in evaluation mode without gradients.

    Training flags, buffers and torch's random states are restored. An error of the model gets a note about `example`.
    """
    with torch.inference_mode(False), torch.no_grad(), _evaluating(model):
        args, kwargs = arguments(model, example)
        try:
            return model(*args, **kwargs)
        except Exception as error:
            error.add_note(
                "This happened while `example` was run through the model. It must be what the model takes: a tensor, "
                "a tuple of positional arguments or a mapping of keyword arguments, on the model's device"
            )
            raise


def arguments(model: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return (args, kwargs) of a tuple, a mapping or one argument, moved to the meta device if `model` is there."""
    parameters = list(model.parameters())
    if parameters and all(parameter.is_meta for parameter in parameters):
        example = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), example)
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module of `model` into evaluation mode, and restore training flags, buffers and the random state."""
    flags = [(module, module.training) for module in model.modules()]
    held = [(module, name, b) for module, _ in flags for name, b in module._buffers.items() if b is not None]
    versions = [None if b.is_inference() else b._version for _, _, b in held]  # inference buffers cannot be written
    buffers = [(*place, place[2].detach().clone(), version) for place, version in zip(held, versions, strict=True)]
    gpus = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    fast_path = torch.backends.mha.get_fastpath_enabled()  # it would hide the weights that it takes
    with torch.random.fork_rng(devices=gpus):
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            for module, _ in flags:
                module.training = False  # an overridden `eval()` may do more, such as merging weights
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            for module, flag in flags:
                module.training = flag
            for module, name, buffer, values, version in buffers:
                module._buffers[name] = buffer
                if version is not None and buffer._version != version:
                    with torch.no_grad():
                        buffer.copy_(values)


def of_one_sign(tensors: list[Tensor]) -> bool:
    """Return True if all entries of the tensors are ≥ 0, or all are < 0.

    Tensors that are not float, have fewer than two entries or are on meta are ignored. False if none is left.
    """
    floats = [t.detach() for t in tensors if t.is_floating_point() and t.numel() > 1 and not t.is_meta]
    return bool(floats) and (all(bool((t >= 0).all()) for t in floats) or all(bool((t < 0).all()) for t in floats))


def tensors_in(value: Any) -> list[Tensor]:
    """List the tensors in `value`, nested in lists, tuples, sets, mappings, dataclasses and plain objects."""
    return list(_tensors(value, set()))


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif not isinstance(value, str | bytes | int | float | type | nn.Module | None) and id(value) not in seen:
        seen.add(id(value))
        for part in _parts(value):
            yield from _tensors(part, seen)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return list(vars(value).values()) if hasattr(value, "__dict__") and not callable(value) else []
