"""How a convolution moves over its input, and how the file's metadata says it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, cast

from torch import nn

_PADDINGS = ("same", "valid")
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Geometry:
    """What `nn.Conv2d` calls so; pairs are (height, width)."""

    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int
    padding_mode: str

    def differences(self, other: "Geometry") -> list[tuple[str, Any, Any]]:
        """The properties in which two geometries differ, each with both values."""
        values = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [(name, mine, theirs) for name, mine, theirs in values if mine != theirs]

    def to_json(self) -> dict[str, Any]:
        """The object in the metadata."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, entry: object) -> "Geometry":
        """The geometry that an object in the metadata describes; ValueError that says what is wrong with it."""
        names = [f.name for f in fields(cls)]
        if not isinstance(entry, dict) or set(entry) != set(names):
            raise ValueError(f"geometry must be null or an object with the keys {', '.join(names)}, is {entry!r}")
        padding, groups, padding_mode = entry["padding"], entry["groups"], entry["padding_mode"]
        for name in ("stride", "dilation"):
            if not _is_pair(entry[name], 1):
                raise ValueError(f"{name} must be a list of two positive integers, is {entry[name]!r}")
        if padding not in _PADDINGS and not _is_pair(padding, 0):
            raise ValueError(f'padding must be a list of two integers from 0, "same" or "valid", is {padding!r}')
        if type(groups) is not int or groups < 1:
            raise ValueError(f"groups must be a positive integer, is {groups!r}")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(_PADDING_MODES)}, is {padding_mode!r}")
        border = padding if isinstance(padding, str) else _pair(padding)
        return cls(_pair(entry["stride"]), border, _pair(entry["dilation"]), groups, padding_mode)


def geometry_of(layer: nn.Module) -> Geometry | None:
    """The geometry of a layer, None unless it is a convolution."""
    if not isinstance(layer, nn.Conv2d):
        return None
    padding = layer.padding if isinstance(layer.padding, str) else _pair(layer.padding)
    return Geometry(_pair(layer.stride), padding, _pair(layer.dilation), int(layer.groups), layer.padding_mode)


def _pair(value: int | Iterable[int]) -> tuple[int, int]:
    """(height, width); one number stands for both, as in torch, which lets it be written after construction."""
    numbers = tuple(int(number) for number in value) if isinstance(value, Iterable) else (int(value),)
    return cast(tuple[int, int], numbers * 2 if len(numbers) == 1 else numbers)


def _is_pair(value: object, least: int) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(n) is int and n >= least for n in value)
