"""Checks of a model before it ships: no NaN or infinity, of which packing would take signs, and no wrapper."""

import torch
from torch import Tensor, nn

from proxconnect.layers import BinaryLayer, Shift

STATISTICS = ("running_mean", "running_var")
_DIVERGED = "go back to a checkpoint before it diverged"

_INNER = {
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch.optim.swa_utils", "AveragedModel"): "module",
}
"""The attribute of the inner model, by the module and name of a wrapper's class: importing the first takes seconds."""


def is_finite(tensor: Tensor) -> bool:
    """Return True for a meta tensor, or if a tensor, or this rank's part of a DTensor, has no NaN and no infinity."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.is_meta or not tensor.numel():
        return True
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor.detach()))


def require_finite(model: nn.Module, layers: type[nn.Module] = BinaryLayer, advice: str = _DIVERGED) -> None:
    """Raise ValueError, with `advice`, for NaN or infinity in a layer of class `layers`, a shift or a batch norm."""
    for name, module in model.named_modules():
        if isinstance(module, layers | Shift) or STATISTICS[-1] in module._buffers:
            require_own_finite(f"layer {name!r}" if name else "the model", module, advice)


def require_own_finite(name: str, module: nn.Module, advice: str = _DIVERGED) -> None:
    """Raise ValueError about `name`, with `advice`, for NaN or infinity in a module's own parameters or statistics."""
    held = module._parameters | {key: module._buffers.get(key) for key in STATISTICS}
    for key, tensor in held.items():
        if tensor is not None and not is_finite(tensor):
            raise ValueError(f"{name}: `{key}` has NaN or infinite entries: {advice}")


def require_unwrapped(model: nn.Module, call: str) -> None:
    """Raise ValueError if a model is wrapped by `torch.compile`, (Distributed)DataParallel or AveragedModel.

    The message suggests `call` with the inner model in the place of {}: "pc.pack({})" becomes "pc.pack(model.module)".
    Modules of the model must not be wrapped either, except by AveragedModel, which may be part of an architecture.
    """
    if (wrapper := _wrapper_of(model)) is not None:
        raise ValueError(
            f"the model is wrapped in {wrapper[0]}, so that its layers have names in the file that its "
            f"architecture lacks: take the inner model, {call.format(f'model.{wrapper[1]}')}"
        )
    if advice := wrapped_part(model):
        raise ValueError(f"{advice} before {call.format('model')}")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the inner model of `torch.compile`, (Distributed)DataParallel or AveragedModel, or `model` itself."""
    while (wrapper := _wrapper_of(model)) is not None:
        model = getattr(model, wrapper[1])
    return model


def wrapped_part(model: nn.Module) -> str:
    """Return advice to unwrap a module of the model that `torch.compile` or (Distributed)DataParallel wraps, or ""."""
    for name, module in model.named_modules():
        wrapper = _wrapper_of(module)
        if wrapper is not None and name and wrapper[0] != "AveragedModel":
            return (
                f"module {name!r} is wrapped in {wrapper[0]}, so that its layers have other names than in the "
                f"architecture: call model.set_submodule({name!r}, model.get_submodule({name!r}).{wrapper[1]})"
            )
    return ""


def _wrapper_of(module: nn.Module) -> tuple[str, str] | None:
    """Return the name of a wrapper's class and the attribute of its inner model; None if a module is no wrapper."""
    keys = ((cls.__module__, cls.__qualname__) for cls in type(module).__mro__)
    return next(((key[1], _INNER[key]) for key in keys if key in _INNER), None)
