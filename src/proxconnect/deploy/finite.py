"""What a diverged run leaves, and must not ship: an infinite latent has a sign, and an infinite statistic makes one."""

import torch
from torch import Tensor, nn

from proxconnect.layers import BinaryLayer, Shift

STATISTICS = ("running_mean", "running_var")
DIVERGED = "go back to a checkpoint before it diverged"


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite; none is on the meta device, and of a DTensor those of this rank count."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.is_meta or not tensor.numel():
        return True
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor.detach()))


def require_finite(model: nn.Module, layers: type[nn.Module] = BinaryLayer, what_to_do: str = DIVERGED) -> None:
    """Raise ValueError where one of the `layers`, a shift or a batch norm of `model` holds NaN or infinity: which."""
    for name, module in model.named_modules():
        if isinstance(module, layers | Shift) or STATISTICS[-1] in module._buffers:
            require_own_finite(f"layer {name!r}" if name else "the model", module, what_to_do)


def require_own_finite(name: str, module: nn.Module, what_to_do: str = DIVERGED) -> None:
    """The same of one module without its children, which errors call `name`."""
    held = module._parameters | {key: module._buffers.get(key) for key in STATISTICS}
    for key, tensor in held.items():
        if tensor is not None and not is_finite(tensor):
            raise ValueError(f"{name}: `{key}` has NaN or infinite entries: {what_to_do}")
