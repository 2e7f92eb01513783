"""The geometry of a convolution: how it moves over its input, in torch's terms."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

_PADDINGS = ("same", "valid")
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Geometry:
    """The options of a convolution, named as in torch; a tuple has an entry for each dimension of the kernel.

    `output_padding` is None unless the convolution is transposed.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str
    output_padding: tuple[int, ...] | None

    def differences(self, other: "Geometry") -> list[tuple[str, Any, Any]]:
        """Return the name and both values of each option in which `other` differs."""
        theirs = asdict(other)
        return [(name, value, theirs[name]) for name, value in asdict(self).items() if value != theirs[name]]

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands in the metadata."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, entry: object, dimensions: int) -> "Geometry":
        """Read an object of the metadata, for a kernel of `dimensions`; ValueError names the wrong option."""
        names = [f.name for f in fields(cls)]
        if not isinstance(entry, dict) or set(entry) != set(names):
            raise ValueError(f"geometry must be null or an object with the keys {', '.join(names)}, is {entry!r}")
        count = f"a list of integers, one for each of {dimensions} dimensions"
        for name in ("stride", "dilation"):
            require_value(entry, name, _is_list(entry[name], dimensions, least=1), f"{count}, from 1")
        is_padding = entry["padding"] in _PADDINGS or _is_list(entry["padding"], dimensions, least=0)
        require_value(entry, "padding", is_padding, f'{count}, from 0, "same" or "valid"')
        is_output_padding = entry["output_padding"] is None or _is_list(entry["output_padding"], dimensions, least=0)
        require_value(entry, "output_padding", is_output_padding, f"null or {count}, from 0")
        require_value(entry, "groups", type(entry["groups"]) is int and entry["groups"] > 0, "a positive integer")
        is_mode = entry["padding_mode"] in _PADDING_MODES
        require_value(entry, "padding_mode", is_mode, f"one of {', '.join(_PADDING_MODES)}")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
        return cls(**values)


def geometry_of(layer: nn.Module) -> Geometry | None:
    """Return the geometry of a layer, or None unless it is a convolution."""
    if not isinstance(layer, _ConvNd):
        return None
    count = len(layer.kernel_size)
    return Geometry(
        _each(layer.stride, count), layer.padding if isinstance(layer.padding, str) else _each(layer.padding, count),
        _each(layer.dilation, count), int(layer.groups), layer.padding_mode,
        _each(layer.output_padding, count) if layer.transposed else None,
    )  # fmt: skip


def require_value(entry: Mapping[str, Any], key: str, is_right: bool, wanted: str) -> None:
    """Raise ValueError with the wanted value unless that of `key` is right."""
    if not is_right:
        raise ValueError(f"{key} must be {wanted}, is {entry[key]!r}")


def _each(value: int | Iterable[int], count: int) -> tuple[int, ...]:
    """Return `count` numbers; a single one stands for all, since torch lets you assign it to a built layer."""
    numbers = tuple(int(number) for number in value) if isinstance(value, Iterable) else (int(value),)
    return numbers * count if len(numbers) == 1 else numbers


def _is_list(value: object, count: int, least: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(type(n) is int and n >= least for n in value)
