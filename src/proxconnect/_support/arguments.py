"""Checks of arguments that many calls take."""

from numbers import Real

from torch import Tensor, nn


def require_module(value: object, call: str) -> None:
    """Raise TypeError unless `value` is a module; the message shows `call`, such as "pack(model)"."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{call} takes an nn.Module as model; got {type(value).__name__}")


def require_number(value: object, name: str) -> None:
    """Raise TypeError unless `value`, called `name`, is a number (NaN and infinity too) or a tensor that holds one."""
    if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.numel() == 1):
        raise TypeError(f"{name} takes a number; got {type(value).__name__}")
