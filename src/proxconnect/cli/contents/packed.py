"""The contents of a packed file."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from proxconnect._support.text import shortened
from proxconnect.cli.answer import Answer
from proxconnect.cli.tables import table
from proxconnect.deploy.packed import PackedFileError
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.metadata import Metadata
from proxconnect.inspection.table import short

if TYPE_CHECKING:
    from rich.console import RenderableType


def packed_contents(path: Path) -> Answer:
    """Read the layers of a packed file, and its tensors of no layer; PackedFileError if it is damaged."""
    try:
        with tensor_file.open_checked(path) as file:
            metadata = Metadata.of(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except ValueError as fault:
        raise PackedFileError(f"cannot read {path}: {fault}") from fault
    owned: dict[str, list[Tensor]] = {name: [] for name in metadata.layers}
    rest = {}
    for name, tensor in tensors.items():
        owner = name.rpartition(".")[0]
        if owner in owned:
            owned[owner].append(tensor)
        else:
            rest[name] = tensor
    stored = {name for name in owned if f"{name}.bits" in tensors or f"{name}.levels" in tensors}
    document = {
        "kind": "packed",
        "file": path,
        "bytes": path.stat().st_size,
        "weights": sum(metadata.layers[name].entries for name in stored),
        "layer_bytes": sum(map(_bytes, owned.values())),
        "remainder": {"tensors": len(rest), "numbers": sum(t.numel() for t in rest.values()),
                      "bytes": _bytes(rest.values())},
        "layers": [
            {
                "name": name,
                "type": spec.kind,
                "shape": spec.shape,
                "weight_bits": spec.weight_bits if name in stored else None,
                "input_bits": 1 if spec.binary_input else 32,
                "scale": spec.scale,
                "accumulator": spec.accumulator,
                "bytes": _bytes(owned[name]),
            }
            for name, spec in metadata.layers.items()
        ],
    }  # fmt: skip
    return Answer(document, _shown(document, rest, len(metadata.aliases)))


def _shown(document: Mapping[str, Any], rest: Mapping[str, Tensor], aliases: int) -> "Iterator[RenderableType]":
    """Yield a table of the layers, and lines of totals."""
    made = table("layer", "type", "weight", "w/in\nbits", "scale", "accumulator", "bytes", left=2)
    for layer in document["layers"]:
        held = layer["accumulator"]
        made.add_row(
            shortened(layer["name"], 24) or "(the model)", shortened(layer["type"], 16),
            "×".join(map(str, layer["shape"])), f"{layer['weight_bits'] or '-'}/{layer['input_bits']}",
            layer["scale"] or "none", "" if held is None else f"{held.bits} bits, {held.overflow}",
            short(layer["bytes"]),
        )  # fmt: skip
    yield made
    yield ""
    yield f"layers above   {document['weights']:,} weights, {document['layer_bytes']:,} bytes with scales and biases"
    yield "the remainder  {numbers:,} numbers in {tensors} tensors, {bytes:,} bytes".format(**document["remainder"])
    for name, tensor in sorted(rest.items(), key=lambda item: -item[1].nbytes)[:3]:
        yield f"               {short(tensor.nbytes):>6} {name}"
    yield f"the file       {document['bytes']:,} bytes"
    if aliases:
        yield f"names          {aliases} of them for tensors that are stored under another"


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
