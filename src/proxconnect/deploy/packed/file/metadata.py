"""The JSON metadata of a packed file: version, aliases, and for each layer the form of its weight, scale and input."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from proxconnect.deploy.packed.file.tensor_file import CHECKSUM, REMEDY
from proxconnect.deploy.packed.half_vectors import Vectors
from proxconnect.kernels.bits import byte_count
from proxconnect.layers import Accumulator
from proxconnect.quantizer.quantizer import FLOAT_TYPES

KEY = "proxconnect"
"""The metadata key of the safetensors file."""
VERSION = 3
"""The version of the layout that `save` writes. Older versions can be read."""

_FIRST_WITH_CHECKSUM = 3
_KEYS = {"version", "layers", "aliases", "vectors"}

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOAT_TYPES}
"""The possible dtypes of a scale and of an unpacked weight, by name."""

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
_ACCUMULATOR_KEYS = ("bits", "overflow", "slope")

_PLAIN_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (lambda value: isinstance(value, str), "a string"),
    "shape": (lambda value: value != [] and _is_list(value, least=1), "a list of positive integers"),
    "scale": (lambda value: value in ("channel", "tensor", None), '"channel", "tensor" or null'),
    "dtype": (lambda value: isinstance(value, str) and value in DTYPES, f"one of {', '.join(DTYPES)}"),
    "binary_input": (lambda value: type(value) is bool, "true or false"),
    "padding_value": (lambda value: type(value) is int and value in (-1, 0, 1), "-1, 0 or 1"),
}
"""A test of each plain value, and the wanted value in words."""


@dataclass(frozen=True)
class Geometry:
    """The options of a convolution, named as in torch; a tuple has an entry for each spatial dimension of the kernel.

    `padding` may also be "same" or "valid". `output_padding` is None unless the convolution is transposed.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str
    output_padding: tuple[int, ...] | None

    @classmethod
    def from_json(cls, entry: object, dimensions: int) -> "Geometry":
        """Parse the JSON object of a convolution of `dimensions` spatial dimensions; ValueError for a wrong value."""
        names = [f.name for f in fields(cls)]
        if not isinstance(entry, dict) or set(entry) != set(names):
            raise ValueError(f"geometry must be null or an object with the keys {', '.join(names)}, is {entry!r}")
        count = f"a list of integers, one for each of {dimensions} dimensions"
        for name in ("stride", "dilation"):
            _require_value(entry, name, _is_list(entry[name], least=1, count=dimensions), f"{count}, from 1")
        is_padding = entry["padding"] in ("same", "valid") or _is_list(entry["padding"], least=0, count=dimensions)
        _require_value(entry, "padding", is_padding, f'{count}, from 0, "same" or "valid"')
        added = entry["output_padding"]
        is_added = added is None or _is_list(added, least=0, count=dimensions)
        _require_value(entry, "output_padding", is_added, f"null or {count}, from 0")
        _require_value(entry, "groups", type(entry["groups"]) is int and entry["groups"] > 0, "a positive integer")
        is_mode = entry["padding_mode"] in _PADDING_MODES
        _require_value(entry, "padding_mode", is_mode, f"one of {', '.join(_PADDING_MODES)}")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
        return cls(**values)


@dataclass(frozen=True)
class LayerSpec:
    """The description of a packed layer in a file: its kind, the form of its weight, scale and input, its options."""

    kind: str
    """The class of the layer, by a key of `layers.forms.BY_KIND`, such as "linear" or "int8_conv2d"."""
    shape: tuple[int, ...]
    """The shape of its unpacked weight."""
    scale: Literal["channel", "tensor"] | None = "channel"
    """One for each output channel, one for the whole weight, or None for weights ±1."""
    dtype: torch.dtype = torch.float32
    """The dtype of its scale and of its unpacked weight."""
    binary_input: bool = False
    accumulator: Accumulator | None = None
    padding_value: int = 0
    """The value, -1, 0 or 1, that a convolution with padding_mode="zeros" pads with."""
    geometry: Geometry | None = None
    """The options of a convolution; None for other layers."""
    channel_dims: tuple[int, ...] | None = None
    """The dimensions of output channels in the weight of a raw parameter; None for other layers."""
    input_shift: bool = False
    """True if it adds a learned shift to its input before it takes the signs."""
    group_size: int | None = None
    """The number of inputs of an output that share a scale; None if all do."""

    @property
    def entries(self) -> int:
        """The number of entries of the weight."""
        return prod(self.shape)

    @property
    def weight_bits(self) -> int:
        """The number of bits that store one entry of the weight: 1, or 8 for a kind "int8_…"."""
        return 8 if self.kind.startswith("int8") else 1

    @property
    def held_shape(self) -> tuple[int, ...]:
        """The shape of the stored weight: of `bits` with 8 signs a byte, or of `levels` with a byte for each entry."""
        return self.shape if self.weight_bits == 8 else (byte_count(self.entries),)

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape of `scale`: () for one, else (out,), (rows,), or the sizes of a raw parameter's `channel_dims`.

        With groups it is (1, out, groups), or (1, groups, out) if the weight is (in, out): a vector, as `is_vector` has
        it, which a file may store in 16 bits.
        """
        if self.scale != "channel":
            return ()
        if self.group_size is not None:
            inputs = self.shape[self.input_dim] // self.group_size
            return (1, inputs, self.shape[1]) if self.input_dim == 0 else (1, self.shape[0], inputs)
        if self.channel_dims is not None:
            return tuple(self.shape[d] for d in self.channel_dims)
        if self.geometry is not None and self.geometry.output_padding is not None:
            return (self.geometry.groups * self.shape[1],)
        return self.shape[1:2] if self.input_dim == 0 else self.shape[:1]

    @property
    def input_dim(self) -> int:
        """The dimension of inputs in the weight of a linear layer."""
        return 0 if self.kind == "transposed_linear" else 1

    @property
    def tensor_bytes(self) -> int:
        """The bytes in memory of the stored weight and its scale, without biases and shifts."""
        scales = 0 if self.scale is None else prod(self.scale_shape)
        return prod(self.held_shape) + scales * self.dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """Return the layer's JSON object: `kind` is called "type", and keys with their default value are left out."""
        held = self.accumulator
        accumulator = None if held is None else {key: getattr(held, key) for key in _ACCUMULATOR_KEYS}
        dtype = str(self.dtype).removeprefix("torch.")
        entry = {"type": self.kind, **asdict(self), "dtype": dtype, "accumulator": accumulator}
        del entry["kind"]
        return {key: value for key, value in entry.items() if key not in _DEFAULTS or value != _DEFAULTS[key]}

    @classmethod
    def from_json(cls, entry: object) -> "LayerSpec":
        """Parse a layer's JSON object, as `json.loads` gives it.

        ValueError for a wrong value or key. Not checked is whether "type" is known and the other keys fit it.
        """
        if not isinstance(entry, dict) or not {"type", "shape"} <= set(entry) <= {"type", "shape", *_DEFAULTS}:
            raise ValueError(f"must be an object with the keys type and shape, and of {', '.join(_DEFAULTS)}")
        entry = {**_DEFAULTS, **entry}
        for key, (is_right, wanted) in _PLAIN_VALUES.items():
            _require_value(entry, key, is_right(entry[key]), wanted)
        is_shift = type(entry["input_shift"]) is bool and entry["input_shift"] <= entry["binary_input"]
        _require_value(entry, "input_shift", is_shift, "false, or true if binary_input is true")
        shape, geometry, dims = tuple(entry["shape"]), entry["geometry"], entry["channel_dims"]
        if dims is not None:
            is_list = dims != [] and _is_list(dims, least=0) and max(dims) < len(shape)
            _require_value(entry, "channel_dims", is_list, f"null or a list of dimensions below {len(shape)}")
            _require_value(entry, "channel_dims", dims == sorted(set(dims)), "in ascending order")
        return cls(
            entry["type"], shape, entry["scale"], DTYPES[entry["dtype"]], entry["binary_input"],
            _accumulator(entry), entry["padding_value"],
            None if geometry is None else Geometry.from_json(geometry, len(shape) - 2),
            None if dims is None else tuple(dims), entry["input_shift"], _group_size(entry),
        )  # fmt: skip


_DEFAULTS = {key.name: key.default for key in fields(LayerSpec)[2:]} | {"dtype": "float32"}
"""The values of the keys that a layer's JSON object may omit."""


@dataclass(frozen=True)
class Metadata:
    """The metadata of a packed file: its packed layers, the aliases of shared tensors, and how it stores vectors."""

    layers: Mapping[str, LayerSpec]
    """The packed layers by qualified name."""
    aliases: Mapping[str, str]
    """For a tensor with several names, which is stored once, the stored name by each further one."""
    vectors: Vectors = "float32"
    """"float16" if float32 vectors may be stored in 16 bits."""

    def to_json(self) -> str:
        """Return the JSON text that a packed file holds under the key `KEY` of its safetensors metadata."""
        layers = {name: spec.to_json() for name, spec in self.layers.items()}
        content = {"version": VERSION, "layers": layers, "aliases": dict(self.aliases), "vectors": self.vectors}
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> "Metadata":
        """Parse a safetensors file's metadata strings; ValueError if the file is not packed, is damaged or too new."""
        if KEY not in entries:
            raise ValueError(
                "it is a safetensors file, but no packed model: save one with pc.save(pc.pack(model), path)"
            )
        try:
            content: dict[str, Any] = json.loads(entries[KEY], object_pairs_hook=_without_duplicates)
        except RecursionError:
            raise ValueError("its metadata is nested too deeply: the file is damaged") from None
        except ValueError as error:
            raise ValueError(f"its metadata is no valid JSON ({error}): the file is damaged") from None
        version = content.get("version") if isinstance(content, dict) else None
        if type(version) is not int or version < 1:
            raise ValueError(f"its metadata has no valid version, but {version!r}: the file is damaged")
        if version > VERSION:
            raise ValueError(f"it was written by a newer proxconnect (layout {version}, this reads {VERSION}): upgrade")
        if version >= _FIRST_WITH_CHECKSUM and CHECKSUM not in entries:
            raise ValueError(f"it is damaged (its checksum is missing): {REMEDY}")
        if version == 1:
            content.setdefault("vectors", "float32")
        if set(content) != _KEYS:
            raise ValueError(f"its metadata must have the keys {', '.join(sorted(_KEYS))}: the file is damaged")
        if content["vectors"] not in get_args(Vectors):
            raise ValueError(f"the vectors in its metadata are {content['vectors']!r}, not one of "
                             f"{', '.join(get_args(Vectors))}: the file is damaged")  # fmt: skip
        layers, aliases = content["layers"], content["aliases"]
        if not isinstance(layers, dict) or not layers:
            raise ValueError("its metadata names no layers: the file is damaged")
        if not isinstance(aliases, dict) or not all(isinstance(target, str) for target in aliases.values()):
            raise ValueError("the aliases in its metadata must be an object of strings: the file is damaged")
        specs = {}
        for name, entry in layers.items():
            try:
                specs[name] = LayerSpec.from_json(entry)
            except ValueError as error:
                raise ValueError(f"the metadata of layer {name!r} is wrong: {error}") from None
        return cls(specs, aliases, content["vectors"])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _accumulator(entry: Mapping[str, Any]) -> Accumulator | None:
    held = entry["accumulator"]
    if held is None:
        return None
    is_object = isinstance(held, dict) and set(held) == set(_ACCUMULATOR_KEYS)
    _require_value(entry, "accumulator", is_object, f"null or an object with the keys {', '.join(_ACCUMULATOR_KEYS)}")
    _require_value(entry, "accumulator", entry["binary_input"], "null, because its input is not binary")
    bits, overflow, slope = (held[key] for key in _ACCUMULATOR_KEYS)
    is_typed = type(bits) is int and type(slope) in (int, float) and isinstance(overflow, str)
    wanted = "an object with an integer as bits, a number as slope and a string as overflow"
    _require_value(entry, "accumulator", is_typed, wanted)
    return Accumulator(bits, overflow, slope)  # it checks its arguments


def _group_size(entry: Mapping[str, Any]) -> int | None:
    size, shape, kind = entry["group_size"], entry["shape"], entry["type"]
    if size is None:
        return None
    has_rows = kind in ("linear", "transposed_linear", "projection", "embedding") and len(shape) == 2
    has_groups = has_rows and entry["scale"] == "channel" and not entry["binary_input"]
    _require_value(entry, "group_size", has_groups, "null, because it is no linear layer of float inputs, and no "
                   "embedding, with a scale for each channel")  # fmt: skip
    inputs = shape[0 if kind == "transposed_linear" else 1]
    divides = type(size) is int and size > 0 and inputs % size == 0
    _require_value(entry, "group_size", divides, f"null or a divisor of the {inputs} inputs")
    return int(size)


def geometry_of(layer: nn.Module) -> Geometry | None:
    """Return the options of a float, binary or packed convolution, or None for any other layer."""
    if not isinstance(layer, _ConvNd):
        return None
    count = len(layer.kernel_size)
    return Geometry(
        _each(layer.stride, count), layer.padding if isinstance(layer.padding, str) else _each(layer.padding, count),
        _each(layer.dilation, count), int(layer.groups), layer.padding_mode,
        _each(layer.output_padding, count) if layer.transposed else None,
    )  # fmt: skip


def _require_value(entry: Mapping[str, Any], key: str, is_right: bool, wanted: str) -> None:
    """Raise ValueError with the wanted value unless that of `key` is right."""
    if not is_right:
        raise ValueError(f"{key} must be {wanted}, is {entry[key]!r}")


def _each(value: int | Iterable[int], count: int) -> tuple[int, ...]:
    """Return `count` numbers; a single one stands for all, since torch lets you assign it to a built layer."""
    numbers = tuple(int(number) for number in value) if isinstance(value, Iterable) else (int(value),)
    return numbers * count if len(numbers) == 1 else numbers


def _is_list(value: Any, *, least: int, count: int | None = None) -> bool:
    """Return True for a list of integers from `least`, if need be of a given length."""
    are_integers = isinstance(value, list) and all(type(n) is int and n >= least for n in value)
    return are_integers and count in (None, len(value))
