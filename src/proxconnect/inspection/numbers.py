"""A model in numbers: bits, bytes in memory and in the packed file, multiply-adds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect._support.arguments import require_module
from proxconnect.deploy.packed.file.metadata import LayerSpec
from proxconnect.deploy.packed.half_vectors import Vectors, as_half, vectors_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import spec_of
from proxconnect.deploy.packed.layers.int8 import Int8Product
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.inspection.macs import Calls, count
from proxconnect.inspection.summary_table import as_rich, as_text
from proxconnect.layers import BinaryLayer

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class LayerSummary:
    """A row of a `Summary`: one module that has tensors or multiply-adds. Numbers exclude those of its children."""

    name: str
    """The first qualified name of the module; "" for the model itself."""
    kind: str
    """The name of the module's class."""
    output_shape: tuple[int, ...] | None
    """The shape of the module's first output; None if it was not called, or without example."""
    weight_bits: int | None
    """Bits of one weight of the module; None if it has neither float nor packed weights."""
    input_bits: int | None
    """Bits of one entry of the module's input; None if the input is not of floats, or unknown."""
    parameters: int
    """The number of its parameters without learned scales; shared ones count in the first module that owns them."""
    float_bytes: int
    """Bytes of its tensors in the float model; thresholds count too."""
    packed_bytes: int
    """Bytes of its tensors in the packed file."""
    binary_macs: int | None
    """Multiply-adds of 1-bit weights and 1-bit inputs for the whole example; None without example."""
    mixed_macs: int | None
    """Multiply-adds of 1-bit weights and other inputs for the whole example; None without example."""
    float_macs: int | None
    """All other multiply-adds for the whole example; None without example."""


@dataclass(frozen=True)
class Summary:
    """The bits, bytes and multiply-adds of a model, from `summary`, by layer and in total; `str()` gives a table."""

    rows: tuple[LayerSummary, ...]
    """The modules that have tensors or multiply-adds, in order of registration."""
    binary_parameters: int
    """The number of binary weights; shared ones count once."""
    uncalled: tuple[str, ...] | None
    """Binary layers whose forward was never called, so that their inputs stay float; None without example."""
    one_signed: tuple[str, ...] | None
    """Layers whose binary input is useless because it has one sign only, as after a ReLU; None without example."""
    kernels: str | None
    """The best instruction set for packed layers, or "not built"; None for a model that is not packed."""

    @property
    def parameters(self) -> int:
        """The number of parameters of the model, float and binary, without learned scales; a shared one counts once."""
        return sum(row.parameters for row in self.rows)

    @property
    def float_bytes(self) -> int:
        """Bytes of the tensors in the state dict of the float model, plus thresholds; a shared tensor counts once."""
        return sum(row.float_bytes for row in self.rows)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the tensors in the file that `save(pack(model), path)` writes, or `save` of a packed model."""
        return sum(row.packed_bytes for row in self.rows)

    @property
    def binary_macs(self) -> int | None:
        """Multiply-adds of 1-bit weights and 1-bit inputs for the whole example; None without example."""
        return None if self.uncalled is None else sum(row.binary_macs or 0 for row in self.rows)

    @property
    def mixed_macs(self) -> int | None:
        """Multiply-adds of 1-bit weights and other inputs for the whole example; None without example."""
        return None if self.uncalled is None else sum(row.mixed_macs or 0 for row in self.rows)

    @property
    def float_macs(self) -> int | None:
        """All other multiply-adds for the whole example; None without example."""
        return None if self.uncalled is None else sum(row.float_macs or 0 for row in self.rows)

    def __str__(self) -> str:
        """Return the table and the totals as text for 80 columns, after an empty line; names are shortened to fit."""
        return f"\n{as_text(self)}"

    def __rich__(self) -> "Group":
        return as_rich(self)


def summary(model: nn.Module, example: Any = None) -> Summary:
    """Summarize the layers of a float, binary or packed model: bits, bytes and multiply-adds.

    Args:
        model: the model, which stays as it was.
        example: a tensor, a tuple of positional arguments or a mapping of keyword arguments, on the model's device. The
            model runs on it once, in `eval()` and without gradients. Without it, shapes, multiply-adds and calls are
            unknown. Give a batch of one for the multiply-adds of one input.

    Returns:
        The numbers by layer and in total; print it for a table.

    Raises:
        TypeError: `model` is no module, or has a type of binary layer without a packed form.
        Exception: the model's own error, with a note, for an example that it does not take.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2))
        >>> numbers = pc.summary(pc.binarize(model, "bnn++"))
        >>> numbers.parameters, numbers.binary_parameters, numbers.float_bytes, numbers.packed_bytes
        (8450, 4096, 33800, 18184)
    """
    require_module(model, "summary(model, example)")
    quantizers = {q for layer in model.modules() if isinstance(layer, BinaryLayer) for q in layer.quantizers.values()}
    names = {module: name for name, module in model.named_modules() if module not in quantizers}
    calls = None if example is None else count(model, example, (BinaryLayer, PackedLayer))
    specs = {
        module: module.spec if isinstance(module, CompactLayer)
        else spec_of(module) if isinstance(module, BinaryLayer) else None
        for module in names
    }  # fmt: skip
    sizes = _sizes(specs, vectors_of(model))
    rows = [
        _row(name, module, specs[module], sizes[module], calls)
        for module, name in names.items()
        if sizes[module].packed_bytes or (calls is not None and calls.macs[module])
    ]
    one_bit = {module: spec for module, spec in specs.items() if spec is not None and spec.weight_bits == 1}
    uncalled = one_signed = None
    if calls is not None:
        takes_input = (module for module, spec in one_bit.items() if spec.channel_dims is None)
        uncalled = tuple(names[module] for module in takes_input if module not in calls.called)
        silent = calls.called - calls.of_two_signs
        one_signed = tuple(names[module] for module, spec in one_bit.items() if spec.binary_input and module in silent)
    best = None
    if any(isinstance(module, CompactLayer) for module in names):
        best = kernels.instruction_sets()[-1] if kernels.is_built() else "not built"
    entries = {id(_held(module)): spec.entries for module, spec in one_bit.items()}.values()
    return Summary(tuple(rows), sum(entries), uncalled, one_signed, best)


def _held(module: nn.Module) -> object:
    """Return the tensor that holds the weight of a binary or packed layer, which tied layers share."""
    return module._held() if isinstance(module, CompactLayer) else module._parameters.get("latent", module)


@dataclass
class _Size:
    parameters: int = 0
    float_bytes: int = 0
    packed_bytes: int = 0


def _sizes(specs: dict[nn.Module, LayerSpec | None], vectors: Vectors) -> dict[nn.Module, _Size]:
    """Return the size of the tensors of each module; a shared tensor counts in the first one."""
    sizes = {module: _Size() for module in specs}
    latents, stored = set(), set()
    for module, spec in ((module, spec) for module, spec in specs.items() if spec is not None):
        size = sizes[module]
        held, scale = _held(module), module.weight_quantizer if isinstance(module, BinaryLayer) else module.scale
        if (source := (id(held), None if spec.scale is None else id(scale))) not in stored:
            stored.add(source)
            size.packed_bytes += spec.tensor_bytes
            if isinstance(module, CompactLayer) and spec.scale is not None:
                size.packed_bytes += _stored_bytes(module.scale, vectors) - module.scale.nbytes
        if id(held) not in latents:
            latents.add(id(held))
            size.parameters += spec.entries
            size.float_bytes += spec.entries * spec.dtype.itemsize
    counted: set[int] = set()
    for module, size in sizes.items():
        packed = () if specs[module] is None else ("latent", "bits", "levels", "scale")
        buffers = {name: b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set}
        for name, tensor in {**module._parameters, **buffers}.items():
            if tensor is None or name in packed or id(tensor) in counted:
                continue
            counted.add(id(tensor))
            size.packed_bytes += _stored_bytes(tensor, vectors)
            if id(tensor) not in latents:
                size.float_bytes += tensor.nbytes
                size.parameters += tensor.numel() if isinstance(tensor, nn.Parameter) else 0
    return sizes


def _stored_bytes(tensor: Tensor, vectors: Vectors) -> int:
    half = None if vectors == "float32" or tensor.is_meta else as_half(tensor.detach())
    return tensor.nbytes if half is None else half.nbytes


def _row(name: str, module: nn.Module, spec: LayerSpec | None, size: _Size, calls: Calls | None) -> LayerSummary:
    bypassed = calls is not None and module not in calls.called
    binary_input = spec is not None and spec.binary_input and not bypassed
    own = next((p.dtype for p in module._parameters.values() if p is not None), None) if spec is None else spec.dtype
    input_type = own if calls is None else calls.input_types.get(module, own)
    has_bits = spec is not None and spec.weight_bits == 1 and not bypassed
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
        mixed_macs=None if macs is None else macs * (has_bits and not binary_input),
        float_macs=None if macs is None else macs * (not has_bits),
    )


def _bits(dtype: torch.dtype | None) -> int | None:
    return dtype.itemsize * 8 if dtype is not None and dtype.is_floating_point else None
