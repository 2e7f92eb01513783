"""What a packed layer is but for its tensors, and how the file's metadata says it."""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch

from proxconnect.deploy.packed.geometry import Geometry
from proxconnect.kernels.bits import byte_count
from proxconnect.layers import Accumulator
from proxconnect.quantizer.quantizer import FLOAT_TYPES

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOAT_TYPES}
"""The dtypes of a packed layer's scale and of its unpacked weight, by name."""

PackedScale = Literal["channel", "tensor"] | None

_KEYS = (
    "type", "shape", "scale", "dtype", "binary_input", "accumulator", "padding_value", "geometry", "channel_dims",
    "input_shift",
)  # fmt: skip

_USUAL = {
    "scale": "channel", "dtype": "float32", "binary_input": False, "accumulator": None, "padding_value": 0,
    "geometry": None, "channel_dims": None, "input_shift": False,
}  # fmt: skip
"""What a key stands for that an entry lacks."""

_ACCUMULATOR_KEYS = ("bits", "overflow", "slope")


@dataclass(frozen=True)
class LayerSpec:
    """One packed layer: `shape` is that of its weight, `dtype` that of its scale and of its unpacked weight.

    `geometry` is None unless the layer is a convolution, `channel_dims` unless it is a raw parameter: for all others
    the kind says which dimensions are output channels.
    """

    kind: str
    shape: tuple[int, ...]
    scale: PackedScale
    dtype: torch.dtype
    binary_input: bool
    accumulator: Accumulator | None
    padding_value: int
    geometry: Geometry | None
    channel_dims: tuple[int, ...] | None
    input_shift: bool = False

    @property
    def entries(self) -> int:
        """The number of weights."""
        return prod(self.shape)

    @property
    def weight_bits(self) -> int:
        """The bits of one weight, 1 or 8."""
        return 8 if self.kind.startswith("int8") else 1

    @property
    def held_shape(self) -> tuple[int, ...]:
        """The shape of the tensor `bits`, or `levels`."""
        return self.shape if self.weight_bits == 8 else (byte_count(self.entries),)

    @property
    def held_dtype(self) -> torch.dtype:
        """The dtype of the tensor `bits`, or `levels`."""
        return torch.int8 if self.weight_bits == 8 else torch.uint8

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape of the tensor `scale`: the sizes of its output channels, else ()."""
        if self.scale != "channel":
            return ()
        if self.channel_dims is not None:
            return tuple(self.shape[d] for d in self.channel_dims)
        if self.geometry is not None and self.geometry.output_padding is not None:
            return (self.geometry.groups * self.shape[1],)
        return self.shape[1:2] if self.kind == "transposed_linear" else self.shape[:1]

    @property
    def tensor_bytes(self) -> int:
        """The bytes of `bits`, or `levels`, and `scale`."""
        scales = 0 if self.scale is None else prod(self.scale_shape)
        return prod(self.held_shape) + scales * self.dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """The entry of the metadata."""
        name = str(self.dtype).removeprefix("torch.")
        values = (
            self.kind, list(self.shape), self.scale, name, self.binary_input,
            self._accumulator_to_json(), self.padding_value,
            None if self.geometry is None else self.geometry.to_json(),
            None if self.channel_dims is None else list(self.channel_dims), self.input_shift,
        )  # fmt: skip
        entry = dict(zip(_KEYS, values, strict=True))
        return {key: value for key, value in entry.items() if key not in _USUAL or value != _USUAL[key]}

    def _accumulator_to_json(self) -> dict[str, Any] | None:
        """What inference needs to know of the accumulator."""
        return None if self.accumulator is None else {k: getattr(self.accumulator, k) for k in _ACCUMULATOR_KEYS}

    @classmethod
    def from_json(cls, entry: object) -> "LayerSpec":
        """The spec that an entry of the metadata describes; ValueError that says what is wrong with it."""
        if not isinstance(entry, dict) or not {"type", "shape"} <= set(entry) <= set(_KEYS):
            raise ValueError(f"must be an object with the keys type and shape, and of {', '.join(_USUAL)}")
        entry = _USUAL | entry
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
        if type(entry["input_shift"]) is not bool or entry["input_shift"] > entry["binary_input"]:
            raise ValueError(f"input_shift must be false, or true where binary_input is; is {entry['input_shift']!r}")
        if type(entry["padding_value"]) is not int or entry["padding_value"] not in (-1, 0, 1):
            raise ValueError(f"padding_value must be -1, 0 or 1, is {entry['padding_value']!r}")
        return cls(
            entry["type"], tuple(shape), entry["scale"], DTYPES[dtype], entry["binary_input"],
            _accumulator(entry["accumulator"], entry["binary_input"]), entry["padding_value"],
            None if entry["geometry"] is None else Geometry.from_json(entry["geometry"], len(shape) - 2),
            _channel_dims(entry["channel_dims"], len(shape)), entry["input_shift"],
        )  # fmt: skip


def _accumulator(entry: object, binary_input: bool) -> Accumulator | None:
    """The accumulator that an entry of the metadata describes; ValueError that says what is wrong with it."""
    if entry is None:
        return None
    if not isinstance(entry, dict) or set(entry) != set(_ACCUMULATOR_KEYS):
        raise ValueError(
            f"accumulator must be null or an object with the keys {', '.join(_ACCUMULATOR_KEYS)}, is {entry!r}"
        )
    if not binary_input:
        raise ValueError("accumulator must be null, for its input is not binary")
    bits, overflow, slope = (entry[key] for key in _ACCUMULATOR_KEYS)
    if type(slope) not in (int, float) or not isinstance(overflow, str):
        raise ValueError(f"accumulator must have a number as slope and a string as overflow, is {entry!r}")
    return Accumulator(bits, overflow, slope)  # type: ignore[arg-type]  # it checks


def _channel_dims(entry: object, dimensions: int) -> tuple[int, ...] | None:
    """The dimensions that an entry of the metadata lists; ValueError that says what is wrong with it."""
    if entry is None:
        return None
    if not isinstance(entry, list) or not entry or not all(type(d) is int and 0 <= d < dimensions for d in entry):
        raise ValueError(f"channel_dims must be null or a list of dimensions below {dimensions}, is {entry!r}")
    if entry != sorted(set(entry)):
        raise ValueError(f"channel_dims must ascend, is {entry!r}")
    return tuple(entry)
