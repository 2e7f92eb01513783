"""A model in numbers: bits, bytes in memory and in the packed file, multiply-adds."""

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect._support.arguments import require_module
from proxconnect._support.text import shortened
from proxconnect.deploy.packed.file.metadata import LayerSpec
from proxconnect.deploy.packed.half_vectors import Vectors, as_half, vectors_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import spec_of
from proxconnect.deploy.packed.layers.int8 import Int8Product
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.inspection.macs import Calls, count
from proxconnect.kernels.library import ON_TORCH
from proxconnect.layers import BinaryLayer

if TYPE_CHECKING:
    from rich.console import Group

_TYPE_WIDTH = 12
_NAME_WIDTH = 12
_HEADERS = (
    ("", "output"), ("bits", "w/in"), ("float", "bytes"), ("packed", "bytes"), ("binary", "MACs"), ("float", "MACs"),
)  # fmt: skip


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
    def float_macs(self) -> int | None:
        """All other multiply-adds for the whole example; None without example."""
        return None if self.uncalled is None else sum(row.float_macs or 0 for row in self.rows)

    def __str__(self) -> str:
        """Return the table and the totals as text for 80 columns; shapes are left out or names shortened to fit."""
        width = 80
        headers, cells = _columns(self)
        widths = [max(map(len, column)) for column in zip(*cells, *headers, strict=True)]
        if self.uncalled is not None and width - _TYPE_WIDTH - sum(widths) - len(widths) - 1 < _NAME_WIDTH:
            headers, cells, widths = [h[1:] for h in headers], [line[1:] for line in cells], widths[1:]
        names = [row.name or "(the model)" for row in self.rows]
        room = max(_NAME_WIDTH, width - _TYPE_WIDTH - sum(widths) - len(widths) - 1)
        name_width = min(room, max(map(len, ["layer", *names])))

        def line(name: str, kind: str, values: tuple[str, ...]) -> str:
            kind = kind if len(kind) <= _TYPE_WIDTH else f"{kind[: _TYPE_WIDTH - 1]}…"
            left = f"{shortened(name, name_width):{name_width}} {kind:{_TYPE_WIDTH}}"
            return " ".join([left, *(f"{value:>{w}}" for value, w in zip(values, widths, strict=True))]).rstrip()

        lines = [line("", "", headers[0]), line("layer", "type", headers[1])]
        lines.append("─" * max(map(len, lines)))
        lines += [line(name, row.kind, values) for name, row, values in zip(names, self.rows, cells, strict=True)]
        for total in ["", *_totals(self)]:
            lines += wrap(total, width, subsequent_indent=" " * 12) or [""]
        return "\n".join(lines)

    def __rich__(self) -> "Group":
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        headers, cells = _columns(self)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("layer", "type"):
            table.add_column(name, no_wrap=True)
        for first, second in zip(*headers, strict=True):
            table.add_column(f"{first}\n{second}", justify="right", no_wrap=True)
        for row, values in zip(self.rows, cells, strict=True):
            table.add_row(row.name or "(the model)", row.kind, *values)
        return Group(table, Text("\n".join(_totals(self))))


def short(amount: int | None) -> str:
    """Return a count as text in powers of 1000: 12345 as "12.3k", at most six characters below 1000T. None gives ""."""
    if amount is None:
        return ""
    value, units = float(amount), ["", "k", "M", "G", "T"]
    while value >= 999.95 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f}{units[0]}" if units[0] else f"{value:.0f}"


def _columns(summary: Summary) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the two lines of headers and the cells of each row, without the layer's name and type."""
    shown = slice(1, 4) if summary.uncalled is None else slice(None)
    cells = []
    for row in summary.rows:
        shape = "" if row.output_shape is None else "×".join(map(str, row.output_shape))
        bits = "" if row.weight_bits is None else f"{row.weight_bits}/{row.input_bits or '-'}"
        amounts = map(short, (row.float_bytes, row.packed_bytes, row.binary_macs, row.float_macs))
        cells.append((shape, bits, *amounts)[shown])
    return [line[shown] for line in zip(*_HEADERS, strict=True)], cells


def _totals(summary: Summary) -> list[str]:
    ratio = summary.float_bytes / summary.packed_bytes if summary.packed_bytes else 1.0
    lines = [
        f"parameters  {summary.parameters:,}, {summary.binary_parameters:,} of them binary",
        f"bytes       {summary.float_bytes:,} float, {summary.packed_bytes:,} packed: {ratio:.1f} times smaller",
    ]
    if summary.kernels is not None:
        lines.append(f"kernels     {f'NOT BUILT: {ON_TORCH}' if summary.kernels == 'not built' else summary.kernels}")
    if summary.uncalled is not None:
        lines.append(f"MACs        {summary.binary_macs:,} of 1-bit weights and inputs, {summary.float_macs:,} float")
    if summary.uncalled:
        lines.append(f"forward     never called, so their inputs stay float: {', '.join(summary.uncalled)}")
    if summary.one_signed:
        names = ", ".join(summary.one_signed)
        lines.append(f"inputs      of one sign only (a ReLU?), so binary they say nothing: {names}")
    return lines


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
