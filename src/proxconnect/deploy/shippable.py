"""Checks of a model before it ships: no NaN or infinity from a diverged run, and no wrapper around it.

They matter because an infinite latent still has a sign, and an infinite statistic makes one.
"""

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
    """Return True if no entry of a tensor is NaN or infinite.

    Only this rank's part of a DTensor is checked. Empty tensors and meta tensors count as finite.
    """
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.is_meta or not tensor.numel():
        return True
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor.detach()))


def require_finite(model: nn.Module, layers: type[nn.Module] = BinaryLayer, advice: str = _DIVERGED) -> None:
    """Check the parameters and batch-norm statistics of a model's layers for NaN and infinity.

    Args:
        model: a binary or packed model.
        layers: the class of the layers to check. Learned shifts and batch norms are always checked.
        advice: the end of the error message, which says what to do.

    Raises:
        ValueError: at the first such entry; the message names the layer and the tensor.
    """
    for name, module in model.named_modules():
        if isinstance(module, layers | Shift) or STATISTICS[-1] in module._buffers:
            require_own_finite(f"layer {name!r}" if name else "the model", module, advice)


def require_own_finite(name: str, module: nn.Module, advice: str = _DIVERGED) -> None:
    """Check the parameters and batch-norm statistics of `module` itself, not of its children, for NaN and infinity.

    Args:
        name: what the error message calls the module, such as "layer 'fc'".
        module: the layer to check.
        advice: the end of the error message, which says what to do.

    Raises:
        ValueError: at the first such entry.
    """
    held = module._parameters | {key: module._buffers.get(key) for key in STATISTICS}
    for key, tensor in held.items():
        if tensor is not None and not is_finite(tensor):
            raise ValueError(f"{name}: `{key}` has NaN or infinite entries: {advice}")


def require_unwrapped(model: nn.Module, call: str) -> None:
    """Raise ValueError if a model is wrapped by `torch.compile`, (Distributed)DataParallel or AveragedModel.

    The message suggests `call` with the inner model in the place of {}: "pc.pack({})" becomes "pc.pack(model.module)".
    """
    for cls in type(model).__mro__:
        inner = _INNER.get((cls.__module__, cls.__qualname__))
        if inner is not None:
            raise ValueError(
                f"the model is wrapped in {cls.__name__}, so that its layers have names in the file that its "
                f"architecture lacks: take the inner model, {call.format(f'model.{inner}')}"
            )
