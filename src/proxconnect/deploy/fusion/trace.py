"""The graph of a module's forward in `eval()`, its layers and what lies between them as nodes."""

import inspect
import operator
import threading
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx, nn

from proxconnect.deploy.fusion.attributes import Attributes
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.layers import BinaryMultiheadAttention
from proxconnect.layers.react import Shift

_LAYOUT = ("stride", "as_strided", "as_strided_", "is_contiguous", "data_ptr", "storage_offset")
"""Methods whose answer depends on how a tensor lies in memory, which a graph changes."""


one_at_a_time = threading.RLock()
"""Held while a forward is traced: `torch.fx` patches `nn.Module` for all threads then."""


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
    with one_at_a_time:
        while (graph := _attempt(module, forward, opaque)) is None:
            pass
    for node in graph.nodes:
        if node.op == "call_method" and node.target in _LAYOUT:
            raise UntraceableError(f"it asks for {node.target}() of a tensor")
    return graph


def _attempt(module: nn.Module, forward: Callable[..., Any], opaque: set[nn.Module]) -> fx.Graph | None:
    """The graph; None where modules turned out to set attributes, which `opaque` has then."""
    tracer = _Tracer(module, forward, opaque)
    attributes = Attributes(m for m in module.modules() if m is module or not tracer.is_leaf_module(m, ""))
    try:
        with torch.no_grad():
            graph = tracer.trace(module)
    except Exception as error:  # whatever its code raises when it meets a proxy
        attributes.put_back()
        raise UntraceableError(_reason(error)) from error
    were_set = attributes.put_back()
    if module in were_set:
        raise UntraceableError(f"its forward sets or changes self.{were_set[module]}")
    opaque.update(were_set)
    return None if were_set else graph


class _Tracer(fx.Tracer):
    """Passes through containers and modules of others, not through layers, nor through what fails: `opaque` gets it."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any], opaque: set[nn.Module]) -> None:
        super().__init__()
        self.forward, self.opaque = forward, opaque
        self.name_of = {tensor: name for name, tensor in (*module.named_buffers(), *module.named_parameters())}
        self.proxies: dict[str, fx.Proxy] = {}
        self.thread = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` is a node."""
        if m in self.opaque or isinstance(m, CompactLayer | BinaryMultiheadAttention | Shift):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Called for every module that a forward calls, whichever thread it runs in."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        nodes, stack = len(self.graph.nodes), self.module_stack.copy()
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            is_part = m in {*self.root.modules()}  # not one that is made anew in each call
            if not is_part or m is self.root or m in self.opaque:
                raise
        self._forget(nodes)
        self.module_stack = stack
        self.opaque.add(m)
        return super().call_module(m, forward, args, kwargs)

    def _forget(self, count: int) -> None:
        """Leave so many nodes."""
        for node in list(islice(reversed(self.graph.nodes), len(self.graph.nodes) - count)):
            self.graph.erase_node(node)
            self.proxies.pop(str(node.target), None)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Called for every parameter, buffer and module that is asked for, in whichever thread.

        torch.fx would search all parameters each time.
        """
        if threading.get_ident() != self.thread or not isinstance(attr_val, Tensor) or attr_val not in self.name_of:
            return attr_val
        name = self.name_of[attr_val]
        if name not in self.proxies:
            self.proxies[name] = self.create_proxy("get_attr", name, (), {})
        return self.proxies[name]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a value while a forward is traced."""
        return _Proxy(node, self)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """What is traced, and placeholders for its required parameters alone: the others keep their defaults."""
        names = required_parameters(self.forward)
        return self.forward, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]


class _Proxy(fx.Proxy):
    """Says that `x += y` writes into x, which others may hold; torch.fx makes it x = x + y."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._write(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._write(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._write(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._write(operator.itruediv, other)

    def _write(self, function: Callable[..., Any], other: Any) -> fx.Proxy:
        proxy: fx.Proxy = self.tracer.create_proxy("call_function", function, (self, other), {})
        return proxy


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
