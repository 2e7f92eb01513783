"""What a packed layer is but for its tensors, and how the file's metadata says it."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from proxconnect.packed.bits import byte_count
from proxconnect.packed.geometry import Geometry
from proxconnect.quantizer import FLOAT_TYPES, Scale

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOAT_TYPES}
"""The dtypes of a packed layer's scale and of its unpacked weight, by name."""

_KEYS = ("type", "shape", "scale", "dtype", "binary_input", "padding_value", "geometry")


@dataclass(frozen=True)
class LayerSpec:
    """One packed layer: `shape` is that of its weight, `dtype` that of its scale and of its unpacked weight.

    `geometry` is None unless the layer is a convolution.
    """

    kind: str
    shape: tuple[int, ...]
    scale: Scale
    dtype: torch.dtype
    binary_input: bool
    padding_value: int
    geometry: Geometry | None

    @property
    def entries(self) -> int:
        """The number of weights."""
        return prod(self.shape)

    @property
    def bit_shape(self) -> tuple[int]:
        """The shape of the tensor `bits`."""
        return (byte_count(self.entries),)

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape of the tensor `scale`: (out,) per channel, else ()."""
        return self.shape[:1] if self.scale == "channel" else ()

    @property
    def tensor_bytes(self) -> int:
        """The bytes of `bits` and `scale`."""
        scales = 0 if self.scale is None else prod(self.scale_shape)
        return self.bit_shape[0] + scales * self.dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """The entry of the metadata."""
        name = str(self.dtype).removeprefix("torch.")
        geometry = None if self.geometry is None else self.geometry.to_json()
        values = (self.kind, list(self.shape), self.scale, name, self.binary_input, self.padding_value, geometry)
        return dict(zip(_KEYS, values, strict=True))

    @classmethod
    def from_json(cls, entry: object) -> "LayerSpec":
        """The spec that an entry of the metadata describes; ValueError that says what is wrong with it."""
        if not isinstance(entry, dict) or set(entry) != set(_KEYS):
            raise ValueError(f"must be an object with the keys {', '.join(_KEYS)}")
        shape, dtype = entry["shape"], entry["dtype"]
        if not isinstance(entry["type"], str):
            raise ValueError(f"type must be a string, is {entry['type']!r}")
        if not isinstance(shape, list) or not shape or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(f"shape must be a list of positive integers, is {shape!r}")
        if entry["scale"] not in ("channel", "tensor", None):
            raise ValueError(f'scale must be "channel", "tensor" or null, is {entry["scale"]!r}')
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, is {dtype!r}")
        if type(entry["binary_input"]) is not bool:
            raise ValueError(f"binary_input must be true or false, is {entry['binary_input']!r}")
        if type(entry["padding_value"]) is not int or entry["padding_value"] not in (-1, 0, 1):
            raise ValueError(f"padding_value must be -1, 0 or 1, is {entry['padding_value']!r}")
        geometry = None if entry["geometry"] is None else Geometry.from_json(entry["geometry"])
        return cls(
            entry["type"], tuple(shape), entry["scale"], DTYPES[dtype], entry["binary_input"],
            entry["padding_value"], geometry,
        )  # fmt: skip
