"""Which parts of a packed model run as fused graphs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from proxconnect.deploy.fusion.binary_products import STEPS, BinaryProduct
from proxconnect.deploy.fusion.graph_modules import let_forward_be_fused
from proxconnect.deploy.fusion.trace import UntraceableError
from proxconnect.deploy.packed import PackedLayer
from proxconnect.kernels.absence import ADVICE, NOT_BUILT, ON_TORCH
from proxconnect.kernels.library import is_built

Floats = Literal["torch", "fast"]
"""Whether torch or kernels compute the floats of graphs; kernels do so about as exactly."""


@dataclass(frozen=True)
class Region:
    """A module whose forward is a graph."""

    name: str
    counts: Mapping[str, int]
    """How often each fused operation stands in it, by `Operation.name`, and what binary layers take with them."""

    def __str__(self) -> str:
        counts = Counter(self.counts)
        what = [f"{counts.pop(name, 0)} {name}" for name in (BinaryProduct.name, STEPS)]
        rest = [f"{count} {name}" for name, count in counts.items() if count]
        return f"{self.name or 'the model'}: {', '.join([' with '.join(what), *rest])}"


@dataclass(frozen=True)
class Fusion:
    """What of a packed model runs fused, and why other modules run layer by layer."""

    regions: tuple[Region, ...]
    reasons: dict[str, str]
    """By the name of a module that is no graph."""

    def __str__(self) -> str:
        lines = [f"by graph: {region}" for region in self.regions]
        lines += [f"layer by layer: {name or 'the model'}, since {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines) or "layer by layer"


def fuse(model: nn.Module, floats: Floats | None = None) -> Fusion:
    """Let a packed model, or those of its parts that are graphs, run fused, in place; what could be is in the answer.

    `floats` says what computes their float layers: None is for kernels in models without binary inputs, in which no
    sign turns by it. ValueError for anything else. Nothing that the model holds changes, so that it saves as before;
    `forward.GraphForward` says when a graph runs.
    """
    if floats not in (None, *get_args(Floats)):
        raise ValueError(f"floats must be 'torch' or 'fast'; got {floats!r}")
    layers = (module for module in model.modules() if isinstance(module, PackedLayer))
    has_fast_floats = floats == "fast" or (floats is None and not any(layer.has_binary_input for layer in layers))
    if not is_built():
        return Fusion((), {"": f"{NOT_BUILT.upper()}: {ON_TORCH}. {ADVICE}"})
    regions: list[Region] = []
    reasons: dict[str, str] = {}
    _visit("", model, regions, reasons, has_fast_floats)
    return Fusion(tuple(regions), reasons)


def _visit(name: str, module: nn.Module, regions: list[Region], reasons: dict[str, str], has_fast_floats: bool) -> None:
    """Fuse a module, or else its children."""
    if isinstance(module, PackedLayer) or not any(isinstance(m, PackedLayer) for m in module.modules()):
        return
    try:
        work = let_forward_be_fused(module, has_fast_floats=has_fast_floats)
    except UntraceableError as error:
        reasons[name] = str(error)
        for child_name, child in module.named_children():
            _visit(f"{name}.{child_name}" if name else child_name, child, regions, reasons, has_fast_floats)
        return
    if work.counts:
        regions.append(Region(name, dict(work.counts)))
