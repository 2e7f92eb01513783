"""What a packed file or a checkpoint says by itself, without the code of its network."""

from collections.abc import Iterable
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from proxconnect.checkpoints import Checkpoint
from proxconnect.inspection.table import short
from proxconnect.packed import PackedFileError, container
from proxconnect.packed.metadata import KEY, Metadata
from proxconnect.packed.spec import LayerSpec
from proxconnect.text import shortened

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_QUANTIZERS = ("weight_quantizer.mu", "weight_quantizer.alpha", "input_quantizer.mu")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "_orig_mod")
"""What a network is saved under, by training loops and by wrappers."""
_BITS = {"U8": 8, "I8": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64}


class _Stored(NamedTuple):
    """A tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def entries(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.entries * _BITS.get(self.dtype, 8) // 8


def packed_in(path: Path) -> "list[RenderableType]":
    """The layers of a packed file from its metadata and tensors; PackedFileError for one that is damaged."""
    try:
        with container.open_checked(path) as file:
            metadata = Metadata.from_json(file.metadata()[KEY])
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            tensors = [_Stored(n, s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()]
    except ValueError as fault:
        raise PackedFileError(f"cannot read {path}: {fault}") from fault
    own: dict[str, list[_Stored]] = {name: [] for name in metadata.layers}
    rest: list[_Stored] = []
    for tensor in tensors:
        own.get(tensor.name.rpartition(".")[0], rest).append(tensor)
    table = _table("layer", "type", "weight", "w/in\nbits", "scale", "accumulator", "bytes")
    for name, spec in metadata.layers.items():
        table.add_row(
            shortened(name, 24) or "(the model)", shortened(spec.kind, 16), "×".join(map(str, spec.shape)),
            f"{_weight_bits(own[name])}/{1 if spec.binary_input else 32}", spec.scale or "none", _accumulator(spec),
            short(sum(tensor.bytes for tensor in own[name])),
        )  # fmt: skip
    return [table, "", *_sizes(path, metadata, own, rest)]


def _weight_bits(tensors: Iterable[_Stored]) -> str:
    """Of one weight; nothing where its tensor is that of another layer."""
    found = {tensor.name.rpartition(".")[2]: tensor for tensor in tensors}
    if "bits" in found:
        return "1"
    return str(_BITS.get(found["weight"].dtype, 8)) if "weight" in found else "-"


def _accumulator(spec: LayerSpec) -> str:
    held = spec.accumulator
    return "" if held is None else f"{held.bits} bits, {held.overflow}"


def _sizes(
    path: Path, metadata: Metadata, own: dict[str, list[_Stored]], rest: list[_Stored]
) -> "list[RenderableType]":  # fmt: skip
    """Lines: what is binary, what is not, and the whole beside float32."""
    held = {name: sum(tensor.bytes for tensor in tensors) for name, tensors in own.items()}
    weights = sum(spec.entries for name, spec in metadata.layers.items() if own[name])
    others = sum(t.bytes for t in rest)
    size = path.stat().st_size
    lines = [
        f"layers above   {weights:,} weights, {sum(held.values()):,} bytes with scales and biases",
        f"the remainder  {sum(t.entries for t in rest):,} numbers in {len(rest)} tensors, {others:,} bytes",
        *(f"               {short(t.bytes):>6} {t.name}" for t in sorted(rest, key=lambda t: -t.bytes)[:3]),
        f"the file       {size:,} bytes",
    ]
    if metadata.aliases:
        lines.append(f"names          {len(metadata.aliases)} of them for tensors that are stored under another")
    return list(lines)


def latents_in(checkpoint: Checkpoint) -> "list[RenderableType]":
    """The binary layers of a checkpoint, their μ, and what moves it, as far as the file says."""
    latents = {n.removesuffix(".latent"): t for n, t in checkpoint.tensors.items() if n.endswith(".latent")}
    if not latents:
        shown: list[RenderableType] = ["no latents: a float checkpoint, of which `proxconnect pack` takes the signs"]
        return [*shown, f"tensors      {len(checkpoint.tensors)}, {_entries(checkpoint.tensors.values()):,} numbers"]
    prefix = _common_prefix(latents)
    table = _table("layer", "latent", "μ of\nweights", "μ of\ninputs", "scale", "latent\nbytes")
    for name, latent in latents.items():
        mu, alpha, input_mu = (checkpoint.tensors.get(f"{name}.{part}") for part in _QUANTIZERS)
        table.add_row(
            shortened(name.removeprefix(prefix), 28), shortened("×".join(map(str, latent.shape)), 15), _number(mu),
            _number(input_mu), "" if alpha is None else "learned", short(latent.nbytes),
        )  # fmt: skip
    ours = {n: t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
    rest = [t for n, t in ours.items() if not n.endswith((".latent", *_QUANTIZERS))]
    beside = len(checkpoint.tensors) - len(ours)
    lines = [
        f"binary       {_entries(latents.values()):,} latents in {len(latents)} layers",
        f"float        {_entries(rest):,} numbers in {len(rest)} tensors",
        *([f"names        after {prefix!r}, beside which there are {beside} tensors"] if prefix else []),
        *(f"{name}  {value}" for name, value in _of_the_schedule(checkpoint)),
        "Pairs, accumulators and what shares a scale are in no checkpoint.",
    ]
    return [table, "", *lines]


def _entries(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _common_prefix(names: Iterable[str]) -> str:
    """What all names begin with, as far as networks are saved under it."""
    by_depth = zip(*(name.split(".") for name in names), strict=False)
    shared = takewhile(lambda parts: len(set(parts)) == 1 and parts[0] in _WRAPPERS, by_depth)
    return "".join(f"{parts[0]}." for parts in shared)


def _number(tensor: Tensor | None) -> str:
    return "" if tensor is None else f"{float(tensor):g}" if tensor.numel() == 1 else "?"


def _of_the_schedule(checkpoint: Checkpoint) -> list[tuple[str, object]]:
    """What `Sharpening` and update rules keep in the optimizer."""
    return [
        (name.rpartition(".")[2], value)
        for name, value in checkpoint.values.items()
        if ".param_groups.0." in f".{name}" and name.rpartition(".")[2].startswith(("sharpening_", "update_rule"))
    ]


def _table(*titles: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, no_wrap=True, justify="left" if number < 2 else "right")
    return table
