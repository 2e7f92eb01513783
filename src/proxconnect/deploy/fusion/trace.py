"""Trace the forward of a module in `eval()` as a torch.fx graph whose nodes may be reordered."""

import dis
import gc
import inspect
import operator
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache, partialmethod
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.reach import Reach, Snapshot
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.layers import BinaryMultiheadAttention
from proxconnect.layers.react import Shift

_LAYOUT = ("stride", "as_strided", "as_strided_", "is_contiguous", "data_ptr", "storage_offset")
"""Methods whose result depends on the memory layout, which a fused graph changes."""

_OF_FX = "_tensor_constant"
"""The prefix of names that `torch.fx` gives to tensors which a forward makes."""

one_at_a_time = threading.RLock()
"""Held while a forward is traced, because `torch.fx` patches `nn.Module` for all threads."""


class UntraceableError(ValueError):
    """The error for a forward that cannot be turned into a fixed graph; the message says why."""


def required_parameters(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of parameters without defaults, except `self`; UntraceableError for *args or **kwargs."""
    _, *parameters = inspect.signature(forward).parameters.values()
    if loose := [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]:
        raise UntraceableError(f"its forward takes {loose[0]}")
    return tuple(p.name for p in parameters if p.default is p.empty)


class Trace(NamedTuple):
    """A record of the graph of a forward, and of the Python values that its code may read."""

    graph: fx.Graph
    reach: Reach


def trace(module: nn.Module, forward: Callable[..., Any]) -> Trace:
    """Trace `forward`, called with `module` as `self`, as a torch.fx graph in which layers are nodes.

    Inner modules that cannot be traced, or that set attributes, are nodes too. The values that the forward sets are
    restored. UntraceableError if the forward itself cannot be traced, sets values that outlive it, keeps tensors, draws
    random numbers, may read values that cannot be watched, or asks for the memory layout of a tensor.
    """
    opaque: set[nn.Module] = set()
    with one_at_a_time:
        for name in [name for name in vars(module) if name.startswith(_OF_FX)]:  # of an earlier graph
            delattr(module, name)
        while (graph := _attempt(module, forward, opaque)) is None:
            pass
        through = _Tracer(module, forward, opaque).through()
        reach = Reach([m for m in module.modules() if m is module or m not in opaque], through, forward)
    for node in graph.nodes:
        if node.op == "call_method" and node.target in _LAYOUT:
            raise UntraceableError(f"it asks for {node.target}() of a tensor")
    if reach.unseen:
        raise UntraceableError(f"it may read {reach.unseen}, and changes of that cannot be seen")
    return Trace(graph, reach)


def _attempt(module: nn.Module, forward: Callable[..., Any], opaque: set[nn.Module]) -> fx.Graph | None:
    """Return the graph; if inner modules set attributes, add them to `opaque` and return None."""
    tracer, fault = _Tracer(module, forward, opaque), ""
    through = tracer.through()
    before, states = Snapshot(Reach(module.modules(), through, forward)), _random_states()
    with torch.random.fork_rng(devices=()), torch.no_grad():
        try:
            graph = tracer.trace(module)
        except Exception as error:  # whatever its code raises when it meets a proxy
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        draws = _random_states() != states
    random.setstate(states[0])
    changed = before.put_back(_OF_FX)
    keeps = tracer.forget()
    if fault:
        raise UntraceableError(fault)
    for owner, name in changed.items():
        if owner is module or owner not in through:
            raise UntraceableError(f"its forward sets or changes {name}")
        opaque.add(owner)
    if changed:
        return None
    if draws or keeps:
        raise UntraceableError("its forward draws random numbers" if draws else "its forward keeps what it computes")
    return graph


def _random_states() -> tuple[Any, bytes]:
    """Return the states of Python's and of torch's random numbers."""
    return random.getstate(), bytes(torch.get_rng_state().tolist())


class _Tracer(fx.Tracer):
    """Traces through modules that are no layers. One that cannot be traced becomes a node and is added to `opaque`."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any], opaque: set[nn.Module]) -> None:
        super().__init__()
        self.module, self.forward, self.opaque = module, forward, opaque
        self.name_of = {tensor: name for name, tensor in (*module.named_buffers(), *module.named_parameters())}
        self.proxies: dict[str, fx.Proxy] = {}
        self.made: list[weakref.ref[fx.Proxy]] = []
        self.thread = threading.get_ident()

    def through(self) -> list[nn.Module]:
        """Return the modules whose forwards are traced."""
        return [m for m in self.module.modules() if m is self.module or not self.is_leaf_module(m, "")]

    def forget(self) -> bool:
        """Delete proxies from the dictionaries that still hold them, such as attributes; return True if any are held.

        Lists stay as they are, because that of a C object, such as a queue, breaks if another changes it.
        """
        self.proxies.clear()
        if all(proxy() is None for proxy in self.made):
            return False
        gc.collect()  # they may hold each other
        kept = [proxy for made in self.made if (proxy := made()) is not None]
        for holder in gc.get_referrers(*kept) if kept else ():
            if type(holder) is dict:
                for key in [key for key, value in holder.items() if any(value is proxy for proxy in kept)]:
                    del holder[key]
        return bool(kept)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return True if calls of `m` become nodes of the graph; False if its forward is traced into."""
        if m in self.opaque or isinstance(m, CompactLayer | BinaryMultiheadAttention | Shift):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Trace into a module that the forward calls, or make it a node if it is a layer or cannot be traced.

        In other threads, run it.
        """
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        forward = m.forward  # without hooks, which would see proxies, and with which no graph runs
        nodes, stack = len(self.graph.nodes), self.module_stack.copy()
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            is_part = m in {*self.root.modules()}  # not one that is made anew in each call
            if not is_part or m is self.root or m in self.opaque:
                raise
        for node in reversed(list(self.graph.nodes)[nodes:]):  # those of the failed trace
            self.graph.erase_node(node)
            self.proxies.pop(str(node.target), None)
        self.module_stack = stack
        self.opaque.add(m)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a proxy for a parameter or buffer; return other attributes, and all in other threads, unchanged."""
        if threading.get_ident() != self.thread or not isinstance(attr_val, Tensor) or attr_val not in self.name_of:
            return attr_val
        name = self.name_of[attr_val]
        if name not in self.proxies:
            self.proxies[name] = self.create_proxy("get_attr", name, (), {})
        return self.proxies[name]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of a node."""
        proxy = _Proxy(node, self)
        self.made.append(weakref.ref(proxy))
        return proxy

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Return the forward and its arguments: `self`, and a placeholder for each parameter without a default."""
        names = required_parameters(self.forward)
        return self.forward, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]


@cache
def _unpacked(code: CodeType, place: int) -> int | None:
    """Return how many values the instruction at a place of some code unpacks, or None for another instruction."""
    found = next(instruction for instruction in dis.get_instructions(code) if instruction.offset == place)
    return int(found.argval) if found.opname == "UNPACK_SEQUENCE" else None


class _Unpackable(fx.Proxy):
    """A proxy that can be unpacked, as can its attributes, such as `x.shape`.

    Those of torch.fx decode all code of the caller each time, and leave a cycle that holds its frame. `_Tracer.forget`
    would then look for cycles among all objects of the process.
    """

    def __iter__(self) -> Iterator[fx.Proxy]:
        caller = sys._getframe(1)
        count = _unpacked(caller.f_code, caller.f_lasti)
        if count is None:
            return self.tracer.iter(self)
        return (self[i] for i in range(count))  # type: ignore[index]  # torch.fx adds the operator

    def __getattr__(self, name: str) -> fx.proxy.Attribute:
        return _Attribute(self, name)


class _Attribute(_Unpackable, fx.proxy.Attribute):
    """An attribute of a proxy."""


class _Proxy(_Unpackable):
    """A proxy that records `x += y` and its kin as writes into x; torch.fx would record x = x + y."""

    def _write(self, function: Callable[..., Any], other: Any) -> fx.Proxy:
        proxy: fx.Proxy = self.tracer.create_proxy("call_function", function, (self, other), {})
        return proxy

    __iadd__ = partialmethod(_write, operator.iadd)
    __isub__ = partialmethod(_write, operator.isub)
    __imul__ = partialmethod(_write, operator.imul)
    __itruediv__ = partialmethod(_write, operator.itruediv)
    __ifloordiv__ = partialmethod(_write, operator.ifloordiv)
    __imod__ = partialmethod(_write, operator.imod)
    __ipow__ = partialmethod(_write, operator.ipow)


_AUGMENTED = (
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow,
)  # fmt: skip
_VIEWS = (
    "view", "view_as", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "squeeze", "unsqueeze",
    "expand", "expand_as", "chunk", "split", "unbind", "narrow", "select", "getitem", "contiguous", "to", "float",
    "detach", "swapaxes", "swapdims", "moveaxis", "unfold", "ravel", "broadcast_to", "type", "type_as", "t", "diagonal",
    "tensor_split", "dropout", "getattr",
)  # fmt: skip
"""The functions, methods and attributes (as `x.mT`) whose output may share memory with their input."""

_VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""The modules whose output may share memory with their input."""


def separate_writes(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Insert copies into a graph, so that no in-place operation changes a tensor that another operation reads.

    UntraceableError if a written tensor is read afterwards, is an input, a parameter or a buffer, or is given as out=.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if "out" in node.kwargs:
            raise UntraceableError(f"{node} writes into what it is given as out=")
        if not writes(node, modules):
            continue
        written = node.args[0]
        owners = _owners(written, modules)
        if any(o.target == "size" or (o.target is getattr and o.args[1] == "shape") for o in owners):  # numbers
            continue
        if owners[-1].op in ("placeholder", "get_attr"):
            raise UntraceableError(f"{node} writes into {owners[-1]}, which is not its own")
        readers = [user for owner in owners for user in owner.users if user is not node and user not in owners]
        if any(order.get(reader, 0) > order[node] for reader in readers):
            raise UntraceableError(f"{written} is written into by {node} and read again")
        if readers:
            with graph.inserting_before(node):
                copy = graph.call_method("clone", (written,))
            node.replace_input_with(written, copy)


def writes(node: Node, modules: dict[str, nn.Module]) -> bool:
    """Return True if an operation, by its name or `inplace`, writes into its first argument; `modules` are by name."""
    if not node.args or not isinstance(node.args[0], Node):
        return False
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    return node.target in _AUGMENTED or bool(node.kwargs.get("inplace", False)) or _name(node).endswith("_")


def _owners(node: Any, modules: dict[str, nn.Module]) -> list[Node]:
    """Return the node, and the nodes whose memory its value may share."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    is_view = isinstance(module, _VIEW_MODULES) or (module is None and _name(node) in _VIEWS)
    has_owner = is_view and node.args and isinstance(node.args[0], Node)
    return [node, *_owners(node.args[0], modules)] if has_owner else [node]


def _name(node: Node) -> str:
    return node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", ""))
