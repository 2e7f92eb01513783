"""What a file holds, for people and for programs."""

from dataclasses import asdict
from math import isnan, prod
from typing import TYPE_CHECKING, Any

from proxconnect._support.text import shortened
from proxconnect.cli.contents import LatentContents, PackedContents, weight_bits
from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.inspection.numbers import Summary
from proxconnect.inspection.table import short

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Shown = list["RenderableType"]


def show_packed(contents: PackedContents) -> "Shown":
    """A table of layers, and lines: what is binary, what is not, and the whole."""
    table = _table("layer", "type", "weight", "w/in\nbits", "scale", "accumulator", "bytes")
    for name, (spec, own) in contents.layers.items():
        table.add_row(
            shortened(name, 24) or "(the model)", shortened(spec.kind, 16), "×".join(map(str, spec.shape)),
            f"{weight_bits(own) or '-'}/{_input_bits(spec)}", spec.scale or "none", _accumulator(spec),
            short(sum(tensor.bytes for tensor in own)),
        )  # fmt: skip
    rest = contents.remainder
    weights, held = _totals(contents)
    lines = [
        f"layers above   {weights:,} weights, {held:,} bytes with scales and biases",
        f"the remainder  {sum(t.entries for t in rest):,} numbers in {len(rest)} tensors, "
        f"{sum(t.bytes for t in rest):,} bytes",
        *(f"               {short(t.bytes):>6} {t.name}" for t in sorted(rest, key=lambda t: -t.bytes)[:3]),
        f"the file       {contents.size:,} bytes",
    ]
    if contents.aliases:
        lines.append(f"names          {contents.aliases} of them for tensors that are stored under another")
    return [table, "", *lines]


def packed_as_json(contents: PackedContents) -> dict[str, Any]:
    """The same as plain data, in bytes."""
    weights, held = _totals(contents)
    return {
        "kind": "packed",
        "file": contents.path,
        "bytes": contents.size,
        "weights": weights,
        "layer_bytes": held,
        "remainder": {
            "tensors": len(contents.remainder),
            "numbers": sum(t.entries for t in contents.remainder),
            "bytes": sum(t.bytes for t in contents.remainder),
        },
        "layers": [
            {
                "name": name,
                "type": spec.kind,
                "shape": spec.shape,
                "weight_bits": weight_bits(own),
                "input_bits": _input_bits(spec),
                "scale": spec.scale,
                "accumulator": spec.accumulator,
                "bytes": sum(tensor.bytes for tensor in own),
            }
            for name, (spec, own) in contents.layers.items()
        ],
    }


def _totals(contents: PackedContents) -> tuple[int, int]:
    """The weights of the layers and their bytes."""
    weights = sum(spec.entries for spec, own in contents.layers.values() if own)
    return weights, sum(tensor.bytes for _, own in contents.layers.values() for tensor in own)


def _input_bits(spec: LayerSpec) -> int:
    return 1 if spec.binary_input else 32


def _accumulator(spec: LayerSpec) -> str:
    held = spec.accumulator
    return "" if held is None else f"{held.bits} bits, {held.overflow}"


def show_latents(contents: LatentContents) -> "Shown":
    """A table of layers, and lines: what is binary, what is float, and the schedule."""
    if not contents.layers:
        return ["no latents: a float checkpoint, of which `proxconnect pack` takes the signs",
                f"tensors      {contents.float_tensors}, {contents.float_numbers:,} numbers"]  # fmt: skip
    table = _table("layer", "latent", "μ of\nweights", "μ of\ninputs", "scale", "latent\nbytes")
    for layer in contents.layers:
        table.add_row(
            shortened(layer.name, 28), shortened("×".join(map(str, layer.shape)), 15), _mu(layer.mu),
            _mu(layer.input_mu), "learned" if layer.has_learned_scale else "", short(layer.bytes),
        )  # fmt: skip
    prefix, others = contents.prefix, contents.others
    latents = sum(prod(layer.shape) for layer in contents.layers)
    lines = [
        f"binary       {latents:,} latents in {len(contents.layers)} layers",
        f"float        {contents.float_numbers:,} numbers in {contents.float_tensors} tensors",
        *([f"names        after {prefix!r}, beside which there are {others} tensors"] if prefix else []),
        *(f"{name}  {value}" for name, value in contents.schedule.items()),
        "Pairs, accumulators and what shares a scale are in no checkpoint.",
    ]
    return [table, "", *lines]


def latents_as_json(contents: LatentContents) -> dict[str, Any]:
    """The same as plain data, in bytes."""
    return {
        "kind": "checkpoint",
        "file": contents.path,
        "prefix": contents.prefix,
        "latents": sum(prod(layer.shape) for layer in contents.layers),
        "float": {"tensors": contents.float_tensors, "numbers": contents.float_numbers},
        "schedule": contents.schedule,
        "layers": [asdict(layer) for layer in contents.layers],
    }


def summary_as_json(summary: Summary) -> dict[str, Any]:
    """The summary of a network as plain data."""
    totals = ("parameters", "binary_parameters", "float_bytes", "packed_bytes", "binary_macs", "float_macs")
    return {
        "kind": "network",
        **{name: getattr(summary, name) for name in (*totals, "uncalled", "one_signed", "kernels")},
        "layers": [asdict(row) for row in summary.rows],
    }


def _mu(number: float | None) -> str:
    return "" if number is None else "?" if isnan(number) else f"{number:g}"


def _table(*titles: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, no_wrap=True, justify="left" if number < 2 else "right")
    return table
