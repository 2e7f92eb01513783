"""Checks and conversions of arguments that many calls take."""

import math
from numbers import Integral, Real
from types import UnionType
from typing import Any

from torch import nn


def require_type(value: object, kinds: type | UnionType, demand: str) -> None:
    """Raise TypeError unless `value` is one of `kinds`: `demand`, such as "doc takes a string", and the type it has."""
    if not isinstance(value, kinds):
        raise TypeError(f"{demand}; got {type(value).__name__}")


def require_callable(value: object, demand: str) -> None:
    """Raise TypeError unless `value` is callable; the message is as that of `require_type`."""
    if not callable(value):
        raise TypeError(f"{demand}; got {type(value).__name__}")


def require_module(value: object, call: str) -> None:
    """Raise TypeError unless `value` is a module; the message shows `call`, such as "pack(model)"."""
    require_type(value, nn.Module, f"{call} takes an nn.Module as model")


def number(value: object, name: str) -> float:
    """Return the argument `name`, a number or a tensor or array of shape () or (1,), as a float; else TypeError.

    ValueError for an integer that is too large.
    """
    held = _held(value)
    if isinstance(held, bool) or not isinstance(held, Real):
        raise TypeError(f"{name} takes a number; got {_shown(held)}")
    try:
        return float(held)
    except OverflowError:
        raise ValueError(f"{name} is too large for a float") from None


def positive(value: object, name: str) -> float:
    """Return a number as `number` does; ValueError unless it is positive and finite."""
    given = number(value, name)
    if not 0 < given < math.inf:
        raise ValueError(f"{name} must be positive and finite; got {given:g}")
    return given


def finite(value: object, name: str) -> float:
    """Return a number as `number` does; ValueError if it is infinite or NaN."""
    given = number(value, name)
    if not math.isfinite(given):
        raise ValueError(f"{name} must be finite; got {given:g}")
    return given


def whole(value: object, name: str, least: int | None = None) -> int:
    """Return the argument `name`, an integer or a tensor or array of shape () or (1,), as an int.

    TypeError for others, also for 10.0; ValueError for a number below `least`.
    """
    held = _held(value)
    if isinstance(held, bool) or not isinstance(held, Integral):
        raise TypeError(f"{name} takes a whole number; got {_shown(held)}")
    if least is not None and held < least:
        raise ValueError(f"{name} must be at least {least}; got {held}")
    return int(held)


def dimensions(value: object, name: str) -> tuple[int, ...]:
    """Return the argument `name`, a tuple or a list of whole numbers, as a tuple of ints; TypeError for others."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} takes a tuple of dimensions, as (0, 1); got {_shown(value)}")
    return tuple(whole(dim, name) for dim in value)


def boolean(value: object, name: str) -> bool:
    """Return the argument `name`, True or False or a tensor or array of shape () or (1,), as a bool; else TypeError."""
    held = _held(value)
    if not isinstance(held, bool):
        raise TypeError(f"{name} takes True or False; got {_shown(held)}")
    return held


def _held(value: Any) -> Any:
    """Return the Python number in a tensor or array of one entry, also in a numpy scalar; `value` if it is neither."""
    return value.item() if getattr(value, "shape", None) in ((), (1,)) else value


def _shown(value: object) -> str:
    """Show a number by its value, anything else by its type."""
    return repr(value) if isinstance(value, Real) else type(value).__name__
