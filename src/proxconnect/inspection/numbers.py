"""A model in numbers: bits, bytes in memory and in the packed file, multiply-adds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect._support.arguments import require_module
from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.deploy.packed.half_vectors import Vectors, as_half, vectors_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import spec_of
from proxconnect.deploy.packed.layers.int8_products import Int8Product
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.inspection.macs import Calls, count
from proxconnect.inspection.table import rich_table, text
from proxconnect.layers import BinaryLayer

if TYPE_CHECKING:
    from rich.console import Group

_PACKED_TENSORS = ("latent", "bits", "levels", "scale")


@dataclass(frozen=True)
class LayerSummary:
    """One module that owns tensors or multiplies by itself; bytes and multiply-adds are without its children's."""

    name: str
    """Its qualified name, the first where it has several; "" for the model itself."""
    kind: str
    """The name of its class."""
    output_shape: tuple[int, ...] | None
    """The shape of its first output; None where it was not called."""
    weight_bits: int | None
    """The bits of one weight; None where it owns no parameter."""
    input_bits: int | None
    """The bits of one entry of its input; None where that is no float, or unknown."""
    parameters: int
    """The number of its parameters; shared ones count in the first module that owns them."""
    float_bytes: int
    """The bytes of its tensors in the float model."""
    packed_bytes: int
    """The bytes of its tensors in the packed file."""
    binary_macs: int | None
    """Multiply-adds of 1-bit weights and 1-bit inputs for the whole example; None without example."""
    float_macs: int | None
    """All other multiply-adds for the whole example; None without example."""


@dataclass(frozen=True)
class Summary:
    """A model in numbers, in total and by layer; `str()` and rich print it as a table."""

    rows: tuple[LayerSummary, ...]
    """In order of registration."""
    binary_parameters: int
    """The number of weights that are binary."""
    uncalled: tuple[str, ...] | None
    """The binary layers whose forward was never called, so that their inputs stay float; None without example."""
    one_signed: tuple[str, ...] | None
    """The layers whose binary input has one sign only, as after a ReLU, and so says nothing; None without example."""
    kernels: str | None
    """The best instruction set that packed layers may use, or "not built"; None for a model that is not packed."""

    @property
    def parameters(self) -> int:
        """The number of parameters, shared ones once."""
        return sum(row.parameters for row in self.rows)

    @property
    def float_bytes(self) -> int:
        """The bytes of the float model's state dict, shared tensors once."""
        return sum(row.float_bytes for row in self.rows)

    @property
    def packed_bytes(self) -> int:
        """The bytes of the tensors in the file that `save(pack(model), path)` writes."""
        return sum(row.packed_bytes for row in self.rows)

    @property
    def binary_macs(self) -> int | None:
        """Multiply-adds of 1-bit weights and 1-bit inputs for the whole example; None without example."""
        return None if self.uncalled is None else sum(row.binary_macs or 0 for row in self.rows)

    @property
    def float_macs(self) -> int | None:
        """All other multiply-adds for the whole example; None without example."""
        return None if self.uncalled is None else sum(row.float_macs or 0 for row in self.rows)

    def __str__(self) -> str:
        return text(self, width=80)

    def __rich__(self) -> "Group":
        return rich_table(self)


def summary(model: nn.Module, example: Any = None) -> Summary:
    """The layers of `model`, float, binary or packed, with their bits, bytes and multiply-adds.

    `example` is a tensor, a tuple of positional arguments or a mapping of keyword arguments, on the model's device. The
    model runs on it once, in `eval()` and without gradients, and stays as it was; without it nothing is known of
    shapes, multiply-adds and calls. Give a batch of one for the multiply-adds of one input.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2))
        >>> numbers = pc.summary(pc.binarize(model, "bnn++"))
        >>> numbers.parameters, numbers.binary_parameters, numbers.float_bytes, numbers.packed_bytes
        (8450, 4096, 33800, 18184)
    """
    require_module(model, "summary(model, example)")
    names = {module: name for name, module in model.named_modules()}
    for quantizer in _quantizers(names):
        names.pop(quantizer, None)
    calls = None if example is None else count(model, example, (BinaryLayer, PackedLayer))
    sizes = _sizes(names, vectors_of(model))
    rows = [
        _row(name, module, sizes[module], calls)
        for module, name in names.items()
        if sizes[module].packed_bytes or (calls is not None and calls.macs[module])
    ]
    specs = {module: spec for module in names if (spec := _spec(module)) is not None and spec.weight_bits == 1}
    uncalled = one_signed = None
    if calls is not None:
        takes_input = (module for module, spec in specs.items() if spec.channel_dims is None)
        uncalled = tuple(names[module] for module in takes_input if module not in calls.called)
        silent = calls.called - calls.of_two_signs
        one_signed = tuple(names[module] for module, spec in specs.items() if spec.binary_input and module in silent)
    packed = any(isinstance(module, CompactLayer) for module in names)
    binary_parameters = sum(spec.entries for spec in specs.values())
    return Summary(tuple(rows), binary_parameters, uncalled, one_signed, _best_set() if packed else None)


def _best_set() -> str:
    return kernels.instruction_sets()[-1] if kernels.is_built() else "not built"


@dataclass
class _Size:
    parameters: int = 0
    float_bytes: int = 0
    packed_bytes: int = 0


def _sizes(names: dict[nn.Module, str], vectors: Vectors) -> dict[nn.Module, _Size]:
    """What each module adds to the state; a tensor counts where it is met first."""
    sizes = {module: _Size() for module in names}
    latents = set()
    for module, size in sizes.items():
        if (spec := _spec(module)) is None:
            continue
        size.packed_bytes += _held_bytes(module, spec, vectors)
        latent = module._parameters.get("latent")
        if latent is None or id(latent) not in latents:
            latents.add(id(latent))
            size.parameters += spec.entries
            size.float_bytes += spec.entries * spec.dtype.itemsize
    counted: set[int] = set()
    for module, size in sizes.items():
        for tensor in _kept(module, without=() if _spec(module) is None else _PACKED_TENSORS):
            if id(tensor) in counted:
                continue
            counted.add(id(tensor))
            size.packed_bytes += _stored_bytes(tensor, vectors)
            if id(tensor) not in latents:
                size.float_bytes += tensor.nbytes
                size.parameters += tensor.numel() if isinstance(tensor, nn.Parameter) else 0
    return sizes


def _held_bytes(module: nn.Module, spec: LayerSpec, vectors: Vectors) -> int:
    """The bytes that the weight and the scale of a binary or packed layer take in the packed file."""
    if not isinstance(module, CompactLayer) or spec.scale is None:
        return spec.tensor_bytes
    return spec.tensor_bytes - module.scale.nbytes + _stored_bytes(module.scale, vectors)


def _stored_bytes(tensor: Tensor, vectors: Vectors) -> int:
    """The bytes that a tensor takes in the packed file."""
    half = None if vectors == "float32" or tensor.is_meta else as_half(tensor.detach())
    return tensor.nbytes if half is None else half.nbytes


def _kept(module: nn.Module, without: tuple[str, ...]) -> Iterator[Tensor]:
    """The parameters and persistent buffers of `module`, but for those whose names are in `without`."""
    for name, parameter in module._parameters.items():
        if parameter is not None and name not in without:
            yield parameter
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in without and name not in module._non_persistent_buffers_set:
            yield buffer


def _row(name: str, module: nn.Module, size: _Size, calls: Calls | None) -> LayerSummary:
    spec = _spec(module)
    bypassed = calls is not None and module not in calls.called
    binary_input = spec is not None and spec.binary_input and not bypassed
    own = next((p.dtype for p in module._parameters.values() if p is not None), None) if spec is None else spec.dtype
    input_type = own if calls is None else calls.input_types.get(module, own)
    macs = None if calls is None else calls.macs[module]
    return LayerSummary(
        name=name,
        kind=type(module).__name__,
        output_shape=None if calls is None else calls.output_shapes.get(module),
        weight_bits=_bits(own) if spec is None else spec.weight_bits,
        input_bits=1 if binary_input else 8 if isinstance(module, Int8Product) else _bits(input_type),
        parameters=size.parameters,
        float_bytes=size.float_bytes,
        packed_bytes=size.packed_bytes,
        binary_macs=None if macs is None else macs * binary_input,
        float_macs=None if macs is None else macs * (not binary_input),
    )


def _bits(dtype: torch.dtype | None) -> int | None:
    return dtype.itemsize * 8 if dtype is not None and dtype.is_floating_point else None


def _spec(module: nn.Module) -> LayerSpec | None:
    """What `module` is when packed; None where it stays float."""
    if isinstance(module, CompactLayer):
        return module.spec
    return spec_of(module) if isinstance(module, BinaryLayer) else None


def _quantizers(modules: dict[nn.Module, str]) -> list[nn.Module]:
    return [q for module in modules if isinstance(module, BinaryLayer) for q in module.quantizers.values()]
