"""Make a packed model, or parts of it, run fused graphs, if these answer as the modules do."""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import nn

from proxconnect._support.model_context import model_context
from proxconnect._support.text import some
from proxconnect.deploy.fusion.binary_products import BITS, STEPS, BinaryProduct
from proxconnect.deploy.fusion.decoding.architecture import is_decoder_layer, is_decoder_stack
from proxconnect.deploy.fusion.decoding.stack_forward import StackForward
from proxconnect.deploy.fusion.decoding.token_forward import TokenForward, token_forward
from proxconnect.deploy.fusion.graph_forward import GraphForward
from proxconnect.deploy.fusion.trace import UntraceableError
from proxconnect.deploy.packed import PackedLayer
from proxconnect.kernels.library import NOT_BUILT, ON_TORCH, advice, is_built

Floats = Literal["torch", "fast"]
"""How graphs compute float layers: by torch, or by kernels that are faster and about as exact."""

_PLURAL = re.compile(r"s\b")


@dataclass(frozen=True)
class Region:
    """The record of one module that runs as a fused graph: its name ("" for the whole model), and what was fused."""

    name: str
    counts: Mapping[str, int]
    """The number of fused operations by `Operation.name`, of epilogue steps, and of binary layers that give bits."""

    def __str__(self) -> str:
        counts = Counter(self.counts)
        layers, bits, steps = (counts.pop(name, 0) for name in (BinaryProduct.name, BITS, STEPS))
        binary = _counted(layers, BinaryProduct.name) + f" ({bits} {BITS})" * bool(bits)
        parts = [" with ".join([binary] * bool(layers) + [_counted(steps, STEPS)] * bool(steps))]
        parts += [_counted(count, name) for name, count in counts.items() if count]
        return f"{self.name or 'the model'}: {', '.join(filter(None, parts))}"


@dataclass(frozen=True)
class Fusion:
    """The result of `fuse`: the modules that run as fused graphs, and the reasons why others cannot."""

    regions: tuple[Region, ...]
    reasons: dict[str, str]
    """Why a module cannot run as one graph, by the name of the module, which is empty for the whole model."""
    decoders: tuple[str, ...] = ()
    """The decoder layers that run in one call for each new token, where their weights allow it."""

    def __str__(self) -> str:
        lines = [f"fused graph of {region}" for region in self.regions]
        lines += [f"one call for each new token: {some([*self.decoders])}"] if self.decoders else []
        lines += [f"layer by layer: {name or 'the model'}, since {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines) or "layer by layer"


def _counted(count: int, plural: str) -> str:
    """Return the count and the noun, whose first plural s is left out for a count of 1."""
    return f"{count} {_PLURAL.sub('', plural, count=1) if count == 1 else plural}"


def fuse(model: nn.Module, floats: Floats | None = None) -> Fusion:
    """Make a packed model, or the parts of it that can be traced, run as fused graphs, in place.

    The parameters do not change, and the model saves as before. A graph runs for plain CPU inputs in `eval()` without
    gradients, else the layers run one by one. If `floats` is "fast", kernels may compute float layers; if it is
    "torch", torch does. None is "fast" for models without binary inputs, else "torch". ValueError for other values.
    """
    if floats not in (None, *get_args(Floats)):
        raise ValueError(f"floats must be 'torch' or 'fast'; got {floats!r}")
    layers = (module for module in model.modules() if isinstance(module, PackedLayer))
    has_fast_floats = floats == "fast" or (floats is None and not any(layer.has_binary_input for layer in layers))
    if not is_built():
        return Fusion((), {"": f"{NOT_BUILT.upper()}: {ON_TORCH}. {advice()}"})
    regions: list[Region] = []
    reasons: dict[str, str] = {}
    _visit("", model, regions, reasons, has_fast_floats)
    decoders = {name: module for name, module in model.named_modules() if is_decoder_layer(module)}
    for module in decoders.values():
        _run_by_tokens(module, TokenForward(module, _own_forward(module)))
    for module in model.modules():
        if is_decoder_stack(module):
            _run_by_tokens(module, StackForward(module))
    return Fusion(tuple(regions), reasons, (*decoders,))


def _run_by_tokens(module: Any, forward: TokenForward | StackForward) -> None:
    """Let a decoder layer, or a model of them, run by `forward` for each new token."""
    cls: Any = type(module)
    module.__class__ = cls if issubclass(cls, _RunsGraph) else _class_that_runs_graphs(cls)
    vars(module)["_token_forward"] = forward


def _visit(name: str, module: nn.Module, regions: list[Region], reasons: dict[str, str], has_fast_floats: bool) -> None:
    """Fuse a module with packed layers, or its children if it cannot be traced; add the results to the collections."""
    if isinstance(module, PackedLayer) or not any(isinstance(m, PackedLayer) for m in module.modules()):
        return
    try:
        if "forward" in vars(module):
            raise UntraceableError("its forward was replaced")
        fused = GraphForward(module, _own_forward(module), _fuse_children, has_fast_floats=has_fast_floats)
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
    for target in dict.fromkeys(str(node.target) for node in fused.work.traced.nodes if node.op == "call_module"):
        inner = f"{name}.{target}" if name else target
        _visit(inner, module.get_submodule(target), regions, reasons, has_fast_floats)


def _own_forward(module: nn.Module) -> Callable[..., Any]:
    """Return the forward of the module's class, or of its base class if it runs graphs already."""
    return module._own_forward if isinstance(module, _RunsGraph) else type(module).forward


def _fuse_children(module: nn.Module, has_fast_floats: bool) -> None:
    for child in module.children():
        _visit("", child, [], {}, has_fast_floats)


def graph_forward(module: nn.Module) -> GraphForward | None:
    """Return the `GraphForward` that runs the fused graph of a module; None if the module has no graph itself."""
    fused: GraphForward | None = vars(module).get("_graph_forward")
    # A shallow copy holds the graph of the module that was copied.
    return fused if fused is not None and fused.module is module else None


@model_context
def layer_by_layer(model: nn.Module) -> Iterator[None]:
    """In this context, run the layers of `model` and of its submodules instead of their fused graphs.

    Fast floats keep their kernel of attention. `pc.pack(model, floats="torch")` gives a model without it.
    """
    found = [forward for m in model.modules() for forward in (graph_forward(m), token_forward(m))]
    running = [forward for forward in found if forward is not None and not forward.is_paused]
    try:
        for fused in running:
            fused.is_paused = True
        yield
    finally:
        for fused in running:
            fused.is_paused = False


class _RunsGraph(nn.Module):
    """The mixin of the subclasses whose forward runs a fused graph. They have the names of their base classes."""

    _own_forward: ClassVar[Callable[..., Any]]
    """The forward of the base class. That of the subclass may be wrapped again, as by transformers."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode as torch does, and let the graph compare large tensors too before it runs again."""
        if (fused := graph_forward(self)) is not None:
            fused.require_comparison()
        if (by_token := token_forward(self)) is not None:
            by_token.require_comparison()
        return super().train(mode)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (type(self).__bases__[1],), self.__getstate__()


@functools.cache
def _class_that_runs_graphs(base: Any) -> Any:
    """Return a subclass of `base` whose forward runs the fused graph, or that of `base` under torch.compile."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        by_token = token_forward(self)
        if by_token is not None and (answer := by_token(args, kwargs)) is not None:
            return answer
        fused = graph_forward(self)
        if fused is None:  # a shallow copy, or a slice of a container, which its class makes
            return base.forward(self, *args, **kwargs)
        return fused(*args, **kwargs)

    names = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    own = {"forward": forward, "_own_forward": staticmethod(base.forward)}
    return type(base.__name__, (_RunsGraph, base), names | own)


def _blank(base: Any) -> Any:
    """Return an instance without state of the subclass of `base`, for unpickling."""
    cls = _class_that_runs_graphs(base)
    return cls.__new__(cls)
