"""Make a packed model, or parts of it, run fused graphs: their classes become subclasses of the same names."""

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from proxconnect.deploy.fusion.binary_products import STEPS, BinaryProduct
from proxconnect.deploy.fusion.forward import GraphForward
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
        if "forward" in vars(module):
            raise UntraceableError("its forward was replaced")
        own: Any = type(module).forward
        own = own.__wrapped__ if isinstance(module, _RunsGraph) else own
        fused = GraphForward(module, own, has_fast_floats=has_fast_floats)
    except UntraceableError as error:
        reasons[name] = str(error)
        for child_name, child in module.named_children():
            _visit(f"{name}.{child_name}" if name else child_name, child, regions, reasons, has_fast_floats)
        return
    if fused.work.counts:
        cls: Any = type(module)
        module.__class__ = cls if issubclass(cls, _RunsGraph) else _class_that_runs_graphs(cls)
        vars(module)["_graph_forward"] = fused
        regions.append(Region(name, dict(fused.work.counts)))


def graph_forward(module: nn.Module) -> GraphForward | None:
    """Return the `GraphForward` of a module, or None."""
    return vars(module).get("_graph_forward")


@contextmanager
def layer_by_layer(model: nn.Module) -> Iterator[None]:
    """In this context, run the layers of `model` instead of its fused graphs."""
    running = [fused for m in model.modules() if (fused := graph_forward(m)) is not None and not fused.is_paused]
    try:
        for fused in running:
            fused.is_paused = True
        yield
    finally:
        for fused in running:
            fused.is_paused = False


class _RunsGraph(nn.Module):
    """The mixin of the subclasses whose forward runs a fused graph. They have the names of their base classes."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (type(self).__bases__[1],), self.__getstate__()


@functools.cache
def _class_that_runs_graphs(base: Any) -> Any:
    """Return a subclass of `base` whose forward runs the fused graph, or that of `base` under torch.compile."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        fused = vars(self).get("_graph_forward")
        # A slice of a container is made by its class, without a graph; a shallow copy holds that of another module.
        if fused is None or fused.module is not self:
            return base.forward(self, *args, **kwargs)
        return fused(*args, **kwargs)

    names = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(base.__name__, (_RunsGraph, base), {**names, "forward": forward})


def _blank(base: Any) -> nn.Module:
    """Return an instance without state of the subclass of `base`, for unpickling."""
    cls = _class_that_runs_graphs(base)
    blank: nn.Module = cls.__new__(cls)
    return blank
