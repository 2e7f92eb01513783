"""A check of what many calls take first."""

from torch import nn


def require_module(value: object, call: str) -> None:
    """Raise TypeError unless `value` is a module; `call` shows the signature, as "pack(model)"."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{call} takes an nn.Module as model; got {type(value).__name__}")
