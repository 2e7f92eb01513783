"""How a convolution moves over its input, and how the file's metadata says it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

_PADDINGS = ("same", "valid")
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Geometry:
    """What torch's convolutions call so; tuples have an entry for each dimension of the kernel.

    `output_padding` is None unless the convolution is a transposed one.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str
    output_padding: tuple[int, ...] | None

    def differences(self, other: "Geometry") -> list[tuple[str, Any, Any]]:
        """The properties in which two geometries differ, each with both values."""
        values = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [(name, mine, theirs) for name, mine, theirs in values if mine != theirs]

    def to_json(self) -> dict[str, Any]:
        """The object in the metadata."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, entry: object, dimensions: int) -> "Geometry":
        """The geometry that an object in the metadata describes, of a kernel of that many dimensions.

        ValueError that says what is wrong with it.
        """
        names = [f.name for f in fields(cls)]
        if not isinstance(entry, dict) or set(entry) != set(names):
            raise ValueError(f"geometry must be null or an object with the keys {', '.join(names)}, is {entry!r}")
        stride, padding, output_padding = entry["stride"], entry["padding"], entry["output_padding"]
        groups, padding_mode = entry["groups"], entry["padding_mode"]
        count = f"a list of integers, one for each of {dimensions} dimensions"
        for name in ("stride", "dilation"):
            if not _is_list(entry[name], dimensions, least=1):
                raise ValueError(f"{name} must be {count}, from 1, is {entry[name]!r}")
        if padding not in _PADDINGS and not _is_list(padding, dimensions, least=0):
            raise ValueError(f'padding must be {count}, from 0, "same" or "valid", is {padding!r}')
        if output_padding is not None and not _is_list(output_padding, dimensions, least=0):
            raise ValueError(f"output_padding must be null or {count}, from 0, is {output_padding!r}")
        if type(groups) is not int or groups < 1:
            raise ValueError(f"groups must be a positive integer, is {groups!r}")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(_PADDING_MODES)}, is {padding_mode!r}")
        return cls(
            tuple(stride), padding if isinstance(padding, str) else tuple(padding), tuple(entry["dilation"]), groups,
            padding_mode, None if output_padding is None else tuple(output_padding),
        )  # fmt: skip


def geometry_of(layer: nn.Module) -> Geometry | None:
    """The geometry of a layer, None unless it is a convolution."""
    if not isinstance(layer, _ConvNd):
        return None
    count = len(layer.kernel_size)
    return Geometry(
        _each(layer.stride, count), layer.padding if isinstance(layer.padding, str) else _each(layer.padding, count),
        _each(layer.dilation, count), int(layer.groups), layer.padding_mode,
        _each(layer.output_padding, count) if layer.transposed else None,
    )  # fmt: skip


def _each(value: int | Iterable[int], count: int) -> tuple[int, ...]:
    """`count` numbers; one stands for all, as in torch, which lets it be written after construction."""
    numbers = tuple(int(number) for number in value) if isinstance(value, Iterable) else (int(value),)
    return numbers * count if len(numbers) == 1 else numbers


def _is_list(value: object, count: int, least: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(type(n) is int and n >= least for n in value)
