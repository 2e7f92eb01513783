"""The graph of a module's forward in `eval()`, its layers and what lies between them as nodes."""

import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx, nn

from proxconnect.layers import BinaryMultiheadAttention
from proxconnect.packed.compact import CompactLayer

_LAYOUT = ("stride", "as_strided", "as_strided_", "is_contiguous", "data_ptr", "storage_offset")
"""Methods whose answer depends on how a tensor lies in memory, which a graph changes."""


class UntraceableError(ValueError):
    """A forward is no fixed graph; the message says what in it is not, and where."""


def required_parameters(forward: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the parameters without defaults but `self`; UntraceableError for *args and **kwargs."""
    _, *parameters = inspect.signature(forward).parameters.values()
    loose = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if loose:
        raise UntraceableError(f"its forward takes {loose[0]}")
    return tuple(p.name for p in parameters if p.default is p.empty)


def trace(module: nn.Module, forward: Callable[..., Any]) -> fx.Graph:
    """The graph of `forward`, called with `module` and all parameters without defaults, the others left.

    Modules inside it that are no graph by themselves are nodes of it, as layers are. UntraceableError where `forward`
    itself is none.
    """
    opaque: set[nn.Module] = set()
    within = {*module.modules()} - {module}
    while True:
        tracer = _Tracer(forward, opaque)
        try:
            with torch.no_grad():
                graph = tracer.trace(module)
            break
        except Exception as error:  # whatever their code raises when it meets a proxy
            culprit = tracer.innermost
            if culprit not in within - opaque:  # itself, or one that it makes anew each time
                raise UntraceableError(_reason(error)) from error
            opaque.add(culprit)
    for node in graph.nodes:
        if node.op == "call_method" and node.target in _LAYOUT:
            raise UntraceableError(f"it asks for {node.target}() of a tensor")
    return graph


class _Tracer(fx.Tracer):
    """Passes through containers and modules of others, not through layers; remembers where it was when it failed."""

    def __init__(self, forward: Callable[..., Any], opaque: Collection[nn.Module]) -> None:
        super().__init__()
        self.forward, self.opaque = forward, opaque
        self.innermost: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` is a node."""
        if m in self.opaque or isinstance(m, CompactLayer | BinaryMultiheadAttention):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Called for every module that a forward calls."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.innermost = self.innermost or m
            raise

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """What is traced, and placeholders for its required parameters alone: the others keep their defaults."""
        names = required_parameters(self.forward)
        return self.forward, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
