"""The contents of a training checkpoint."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from math import isnan
from typing import TYPE_CHECKING, Any

from torch import Tensor

from proxconnect._support.text import shortened
from proxconnect.cli.answer import Answer
from proxconnect.cli.tables import table
from proxconnect.deploy.checkpoints import Checkpoint
from proxconnect.inspection.table import short

if TYPE_CHECKING:
    from rich.console import RenderableType

_QUANTIZERS = ("weight_quantizer.mu", "weight_quantizer.alpha", "input_quantizer.mu")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "_orig_mod")
"""Names under which training loops and wrappers save a network."""


def checkpoint_contents(checkpoint: Checkpoint) -> Answer:
    """Find the binary layers of a checkpoint, their μ, and the schedule that moves it."""
    latents = {n.removesuffix(".latent"): t for n, t in checkpoint.tensors.items() if n.endswith(".latent")}
    prefix = _common_prefix(latents) if latents else ""
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
        "schedule": _schedule(checkpoint),
        "layers": layers,
    }
    return Answer(document, _shown(document, len(checkpoint.tensors) - len(ours)))


def _shown(document: Mapping[str, Any], others: int) -> "Iterator[RenderableType]":
    """Yield a table of the layers, and lines on the rest."""
    layers, floats = document["layers"], document["float"]
    if not layers:
        yield "no latents: a float checkpoint, of which `proxconnect pack` takes the signs"
        yield f"tensors      {floats['tensors']}, {floats['numbers']:,} numbers"
        return
    made = table("layer", "latent", "μ of\nweights", "μ of\ninputs", "scale", "latent\nbytes", left=2)
    for layer in layers:
        made.add_row(
            shortened(layer["name"], 28), shortened("×".join(map(str, layer["shape"])), 15), _mu(layer["mu"]),
            _mu(layer["input_mu"]), "learned" if layer["has_learned_scale"] else "", short(layer["bytes"]),
        )  # fmt: skip
    yield made
    yield ""
    yield f"binary       {document['latents']:,} latents in {len(layers)} layers"
    yield f"float        {floats['numbers']:,} numbers in {floats['tensors']} tensors"
    if document["prefix"]:
        yield f"names        after {document['prefix']!r}, beside which there are {others} tensors"
    yield from (f"{name}  {value}" for name, value in document["schedule"].items())
    yield "Pairs, accumulators and what shares a scale are in no checkpoint."


def _common_prefix(names: Iterable[str]) -> str:
    """Return the names of wrappers that all of `names` begin with."""
    by_depth = zip(*(name.split(".") for name in names), strict=False)
    shared = takewhile(lambda parts: len(set(parts)) == 1 and parts[0] in _WRAPPERS, by_depth)
    return "".join(f"{parts[0]}." for parts in shared)


def _number(tensor: Tensor | None) -> float | None:
    """Return the value of a tensor of one entry; NaN for other shapes."""
    return None if tensor is None else float(tensor) if tensor.numel() == 1 else float("nan")


def _mu(number: float | None) -> str:
    return "" if number is None else "?" if isnan(number) else f"{number:g}"


def _schedule(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        name.rpartition(".")[2]: value
        for name, value in checkpoint.values.items()
        if ".param_groups.0." in f".{name}" and name.rpartition(".")[2].startswith(("sharpening_", "update_rule"))
    }
