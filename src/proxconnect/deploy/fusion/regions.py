"""Which parts of a packed model run as fused graphs."""

from dataclasses import dataclass

from torch import nn

from proxconnect import kernels
from proxconnect.deploy.fusion.attachment import let_forward_be_fused
from proxconnect.deploy.fusion.fast_floats import Floats, are_fast
from proxconnect.deploy.fusion.trace import UntraceableError
from proxconnect.deploy.packed import PackedLayer
from proxconnect.kernels.absence import ADVICE, NOT_BUILT, ON_TORCH


@dataclass(frozen=True)
class Region:
    """A module whose forward is a graph."""

    name: str
    products: int
    """Binary layers that run with all that follows them."""
    links: int
    """Norms, activations and additions in the same pass as a product."""
    bits: int
    """The products whose output goes on as bits."""
    norms: int
    """The batch norms of floats in one pass with what follows them."""
    int8: int
    """The 8-bit layers in one pass with what stands around them."""
    float_convs: int = 0
    """The float convolutions that kernels run so."""
    attentions: int = 0
    """The attentions of floats in one pass."""

    def __str__(self) -> str:
        what = [f"{self.products} binary layers with {self.links} norms, activations and additions"]
        what += [f"{self.bits} of them from bits to bits"] if self.bits else []
        what += [f"{self.norms} norms of floats"] if self.norms else []
        what += [f"{self.int8} layers of 8 bits"] if self.int8 else []
        what += [f"{self.float_convs} float convolutions"] if self.float_convs else []
        what += [f"{self.attentions} attentions"] if self.attentions else []
        return f"{self.name or 'the model'}: {', '.join(what)}"


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

    `floats` says what computes their float layers; ValueError unless it is one of `Floats`, or None. Nothing that the
    model holds changes, so that it saves as before; `forward.FusedForward` says when a graph runs.
    """
    has_fast_floats = are_fast(model, floats)
    if not kernels.is_built():
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
    if work.changes_anything:
        fused = work.products, work.links, work.bits, work.norms, work.int8, work.float_convs, work.attentions
        regions.append(Region(name, *fused))
