"""The entry of a layer in the metadata: the form of its weight, scale and input, and the shapes that are stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch

from proxconnect.deploy.packed.file.geometry import Geometry, require_value
from proxconnect.kernels.bits import byte_count
from proxconnect.layers import Accumulator
from proxconnect.quantizer.quantizer import FLOAT_TYPES

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOAT_TYPES}
"""The possible dtypes of a scale and of an unpacked weight, by name."""

PackedScale = Literal["channel", "tensor"] | None

_DEFAULTS: Mapping[str, Any] = {
    "scale": "channel", "dtype": "float32", "binary_input": False, "accumulator": None, "padding_value": 0,
    "geometry": None, "channel_dims": None, "input_shift": False,
}  # fmt: skip
"""The values of the keys that an entry may omit."""

_ACCUMULATOR_KEYS = ("bits", "overflow", "slope")


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(type(size) is int and size > 0 for size in value)


_PLAIN_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (lambda value: isinstance(value, str), "a string"),
    "shape": (_are_sizes, "a list of positive integers"),
    "scale": (lambda value: value in ("channel", "tensor", None), '"channel", "tensor" or null'),
    "dtype": (lambda value: isinstance(value, str) and value in DTYPES, f"one of {', '.join(DTYPES)}"),
    "binary_input": (lambda value: type(value) is bool, "true or false"),
    "padding_value": (lambda value: type(value) is int and value in (-1, 0, 1), "-1, 0 or 1"),
}
"""A test of each plain value, and the wanted value in words."""


@dataclass(frozen=True)
class LayerSpec:
    """A packed layer without its tensors.

    `shape` is the shape of its weight, `dtype` the dtype of its scale and of its unpacked weight. `geometry` is None
    unless the layer is a convolution. `channel_dims` is None unless it is a raw parameter: for all other layers the
    kind determines which dimensions are output channels.
    """

    kind: str
    shape: tuple[int, ...]
    scale: PackedScale = "channel"
    dtype: torch.dtype = torch.float32
    binary_input: bool = False
    accumulator: Accumulator | None = None
    padding_value: int = 0
    geometry: Geometry | None = None
    channel_dims: tuple[int, ...] | None = None
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
        """The shape of the tensor `scale`: the sizes of the output channels, or () unless each has a scale."""
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
        """Return the entry of the metadata, without keys that have their default value."""
        held = self.accumulator
        entry = {
            "type": self.kind, "shape": list(self.shape), "scale": self.scale,
            "dtype": str(self.dtype).removeprefix("torch."), "binary_input": self.binary_input,
            "accumulator": None if held is None else {key: getattr(held, key) for key in _ACCUMULATOR_KEYS},
            "padding_value": self.padding_value,
            "geometry": None if self.geometry is None else self.geometry.to_json(),
            "channel_dims": None if self.channel_dims is None else list(self.channel_dims),
            "input_shift": self.input_shift,
        }  # fmt: skip
        return {key: value for key, value in entry.items() if key not in _DEFAULTS or value != _DEFAULTS[key]}

    @classmethod
    def from_json(cls, entry: object) -> "LayerSpec":
        """Read an entry of the metadata; ValueError names the wrong key and the wanted value."""
        if not isinstance(entry, dict) or not {"type", "shape"} <= set(entry) <= {"type", "shape", *_DEFAULTS}:
            raise ValueError(f"must be an object with the keys type and shape, and of {', '.join(_DEFAULTS)}")
        entry = {**_DEFAULTS, **entry}
        for key, (is_right, wanted) in _PLAIN_VALUES.items():
            require_value(entry, key, is_right(entry[key]), wanted)
        is_shift = type(entry["input_shift"]) is bool and entry["input_shift"] <= entry["binary_input"]
        require_value(entry, "input_shift", is_shift, "false, or true if binary_input is true")
        shape, geometry = tuple(entry["shape"]), entry["geometry"]
        return cls(
            entry["type"], shape, entry["scale"], DTYPES[entry["dtype"]], entry["binary_input"],
            _accumulator(entry), entry["padding_value"],
            None if geometry is None else Geometry.from_json(geometry, len(shape) - 2),
            _channel_dims(entry, len(shape)), entry["input_shift"],
        )  # fmt: skip


def _accumulator(entry: Mapping[str, Any]) -> Accumulator | None:
    held = entry["accumulator"]
    if held is None:
        return None
    is_object = isinstance(held, dict) and set(held) == set(_ACCUMULATOR_KEYS)
    require_value(entry, "accumulator", is_object, f"null or an object with the keys {', '.join(_ACCUMULATOR_KEYS)}")
    require_value(entry, "accumulator", entry["binary_input"], "null, because its input is not binary")
    bits, overflow, slope = (held[key] for key in _ACCUMULATOR_KEYS)
    is_typed = type(slope) in (int, float) and isinstance(overflow, str)
    require_value(entry, "accumulator", is_typed, "an object with a number as slope and a string as overflow")
    return Accumulator(bits, overflow, slope)  # it checks its arguments


def _channel_dims(entry: Mapping[str, Any], dimensions: int) -> tuple[int, ...] | None:
    dims = entry["channel_dims"]
    if dims is None:
        return None
    is_list = isinstance(dims, list) and dims != [] and all(type(d) is int and 0 <= d < dimensions for d in dims)
    require_value(entry, "channel_dims", is_list, f"null or a list of dimensions below {dimensions}")
    require_value(entry, "channel_dims", dims == sorted(set(dims)), "in ascending order")
    return tuple(dims)
