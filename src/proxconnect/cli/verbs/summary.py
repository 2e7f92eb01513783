"""`proxconnect summary`: what is in a packed file or in a checkpoint, in bits and bytes."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from torch import Tensor

import proxconnect
from proxconnect._support.text import shortened
from proxconnect._support.user_code import importable_folder
from proxconnect.cli import binarization
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer, table
from proxconnect.cli.networks import add_input, network, require_runs
from proxconnect.cli.parser import Exit, Parser, epilog
from proxconnect.deploy.checkpoints import Checkpoint, is_packed, read
from proxconnect.deploy.packed import PackedFileError
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.metadata import Metadata
from proxconnect.inspection.summary_table import as_text, short

_ABOUT = """
Without --model the file alone is read. With --model, a name as for
`proxconnect bench` or MODULE:CALLABLE, the network runs once on its usual
input, or on one with the shape of --input. Output shapes and multiply-adds are
then shown too. For checkpoints, say how the network was binarized, as for
`proxconnect pack`.
"""
_EXAMPLES = """
proxconnect summary net.safetensors
proxconnect summary net.safetensors --model my_module:net --json
proxconnect summary last.ckpt
proxconnect summary last.ckpt --model my_module:net --input 1 3 64 64
"""
_TOTALS = ("parameters", "binary_parameters", "float_bytes", "packed_bytes", "binary_macs", "mixed_macs", "float_macs",
           "uncalled", "one_signed", "kernels")  # fmt: skip
_QUANTIZERS = ("weight_quantizer.mu", "weight_quantizer.alpha", "input_quantizer.mu")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "_orig_mod")
"""Names under which training loops and wrappers save a network."""


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `summary` to the subcommands of the parser."""
    command = commands.add_parser(
        "summary",
        help="what is in a packed file or in a checkpoint?",
        description="Show the layers of a packed file or of a checkpoint, with their bits and bytes.",
        epilog=epilog(_EXAMPLES, {Exit.DONE: "shown"}, _ABOUT),
    )
    add = command.add_argument
    add("file", type=Path, metavar="CHECKPOINT-or-FILE", help="what `pack` or training wrote")
    add("--json", action="store_true", help=JSON_HELP)
    add = command.add_argument_group("the network").add_argument
    add("--model", metavar="MODEL", help="the code that builds its architecture")
    add_input(add)
    binarization.add_to(command)
    command.set_defaults(run=lambda parsed: print_answer(parsed, _of_model if parsed.model else _of_file))


def _of_file(parsed: argparse.Namespace) -> Answer:
    return _packed_contents(parsed.file) if is_packed(parsed.file) else _checkpoint_contents(read(parsed.file))


@importable_folder()
def _of_model(parsed: argparse.Namespace) -> Answer:
    """Summarize the network itself, which runs once if its input is known."""
    subject = network(parsed.model)
    from_packed_file = is_packed(parsed.file)
    if from_packed_file:
        model = proxconnect.load(parsed.file, subject.build())
    else:
        model, _, _ = binarization.trained(subject, read(parsed.file), parsed)
    example = subject.input_of(parsed.input, model)
    if example is not None:
        require_runs(subject.title, model, example)
    found = proxconnect.summary(model, example)
    totals = {name: getattr(found, name) for name in _TOTALS}
    shown: list[RenderableType] = [as_text(found)]
    if from_packed_file:
        size = parsed.file.stat().st_size
        smaller = f"{found.float_bytes / size:.1f} times smaller than float"
        shown += [f"the file       {size:,} bytes with its header: {smaller}", "", Text(str(model.packing))]
    return Answer({"kind": "network", "file": parsed.file, **totals, "layers": found.rows}, shown)


def _packed_contents(path: Path) -> Answer:
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
    return Answer(document, _shown_packed(document, rest, len(metadata.aliases)))


def _shown_packed(document: Mapping[str, Any], rest: Mapping[str, Tensor], aliases: int) -> Iterator[RenderableType]:
    made = table("layer", "type", "weight", "weight/in\nbits", "scale", "accumulator", "bytes", left=2)
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
        yield f"shared         {aliases} further names for tensors that are stored once"


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _checkpoint_contents(checkpoint: Checkpoint) -> Answer:
    """Find the binary layers of a checkpoint, their μ, and the schedule that moves it."""
    latents = {n.removesuffix(".latent"): t for n, t in checkpoint.tensors.items() if n.endswith(".latent")}
    by_depth = zip(*(name.split(".") for name in latents), strict=False)
    wrappers = takewhile(lambda parts: len(set(parts)) == 1 and parts[0] in _WRAPPERS, by_depth)
    prefix = "".join(f"{parts[0]}." for parts in wrappers)
    ours = {n: t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
    rest = [t for n, t in ours.items() if not n.endswith((".latent", *_QUANTIZERS))]
    layers = []
    for name, latent in latents.items():
        mu, alpha, input_mu = (checkpoint.tensors.get(f"{name}.{part}") for part in _QUANTIZERS)
        layers.append({
            "name": name.removeprefix(prefix),
            "shape": tuple(latent.shape),
            "mu": _number(mu),
            "input_mu": _number(input_mu),
            "has_learned_scale": alpha is not None,
            "bytes": latent.nbytes,
        })  # fmt: skip
    document = {
        "kind": "checkpoint",
        "file": checkpoint.path,
        "prefix": prefix,
        "latents": sum(latent.numel() for latent in latents.values()),
        "float": {"tensors": len(rest), "numbers": sum(tensor.numel() for tensor in rest)},
        "schedule": {
            name.rpartition(".")[2]: value
            for name, value in checkpoint.values.items()
            if ".param_groups.0." in f".{name}" and name.rpartition(".")[2].startswith(("sharpening_", "update_rule"))
        },
        "layers": layers,
    }
    return Answer(document, _shown_checkpoint(document, len(checkpoint.tensors) - len(ours)))


def _shown_checkpoint(document: Mapping[str, Any], others: int) -> Iterator[RenderableType]:
    layers, floats = document["layers"], document["float"]
    if not layers:
        yield f"no latent weights: a float checkpoint, {floats['numbers']:,} numbers in {floats['tensors']} tensors"
        yield "Nothing is binary yet: `proxconnect pack` makes its weights ±1 by their signs."
        return
    made = table("layer", "latent\nweight", "μ of\nweights", "μ of\ninputs", "scale", "latent\nbytes", left=2)
    for layer in layers:
        made.add_row(
            shortened(layer["name"], 28), shortened("×".join(map(str, layer["shape"])), 15), _mu(layer["mu"]),
            _mu(layer["input_mu"]), "learned" if layer["has_learned_scale"] else "", short(layer["bytes"]),
        )  # fmt: skip
    yield made
    yield ""
    yield f"binary       {document['latents']:,} latent weights in {len(layers)} layers, which pack to 1 bit each"
    yield f"float        {floats['numbers']:,} numbers in {floats['tensors']} tensors"
    if document["prefix"]:
        yield f"names        start with {document['prefix']!r}, but those of {others} other tensors"
    yield from (f"optimizer    {name}: {value}" for name, value in document["schedule"].items())
    yield "A checkpoint does not record pairs, accumulators or which weights share a scale."


def _number(tensor: Tensor | None) -> float | None:
    """Return the value of a tensor of one entry; NaN for other shapes."""
    return None if tensor is None else float(tensor) if tensor.numel() == 1 else float("nan")


def _mu(number: float | None) -> str:
    return "" if number is None else "?" if isnan(number) else f"{number:g}"
