"""Find the parts of a packed model that can run as fused graphs, and fuse them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from proxconnect.deploy.fusion.binary_products import STEPS, BinaryProduct
from proxconnect.deploy.fusion.graph_modules import let_forward_be_fused
from proxconnect.deploy.fusion.trace import UntraceableError
from proxconnect.deploy.packed import PackedLayer
from proxconnect.kernels.library import ADVICE, NOT_BUILT, ON_TORCH, is_built

Floats = Literal["torch", "fast"]
"""What computes the float layers of graphs: torch, or kernels that are faster and about as exact."""


@dataclass(frozen=True)
class Region:
    """A module that runs as one fused graph."""

    name: str
    """The name of the module; empty for the whole model."""
    counts: Mapping[str, int]
    """The number of fused operations by `Operation.name`, and of the steps and bits of binary layers."""

    def __str__(self) -> str:
        counts = Counter(self.counts)
        what = [f"{counts.pop(name, 0)} {name}" for name in (BinaryProduct.name, STEPS)]
        rest = [f"{count} {name}" for name, count in counts.items() if count]
        return f"{self.name or 'the model'}: {', '.join([' with '.join(what), *rest])}"


@dataclass(frozen=True)
class Fusion:
    """The parts of a packed model that run as fused graphs, and the reasons why other modules run layer by layer."""

    regions: tuple[Region, ...]
    reasons: dict[str, str]
    """For the name of each module that cannot be traced, why."""

    def __str__(self) -> str:
        lines = [f"by graph: {region}" for region in self.regions]
        lines += [f"layer by layer: {name or 'the model'}, since {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines) or "layer by layer"


def fuse(model: nn.Module, floats: Floats | None = None) -> Fusion:
    """Make a packed model, or the parts of it that can be traced, run as fused graphs, in place.

    The parameters do not change, and the model saves as before. `forward.GraphForward` says when a graph runs.

    Args:
        model: the packed model.
        floats: "fast" lets kernels compute float layers, "torch" does not. None is "fast" for models without binary
            inputs, in which rounding cannot change a sign. ValueError for anything else.

    Returns:
        The parts that run fused, and the reasons why others do not.
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
    """Fuse a module with packed layers, or its children if it cannot be traced; add the results to the collections."""
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
