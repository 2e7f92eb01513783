"""Trace the forward of a module in `eval()` as a torch.fx graph whose nodes may be reordered."""

import gc
import inspect
import operator
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from dis import opmap
from functools import partial, partialmethod
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from proxconnect.deploy.fusion.reach import Reach
from proxconnect.deploy.fusion.sizes import Decisions, are_sizes, require_length, require_truth
from proxconnect.deploy.fusion.snapshot import Snapshot
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.layers import BinaryMultiheadAttention
from proxconnect.layers.prelu import PReLU
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
    """Return the names of the parameters without defaults, except `self`; UntraceableError for *args."""
    _, *parameters = inspect.signature(forward).parameters.values()
    if loose := [p for p in parameters if p.kind is p.VAR_POSITIONAL]:
        raise UntraceableError(f"its forward takes {loose[0]}")
    return tuple(p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD)


class Trace(NamedTuple):
    """A record of the graph of a forward, and of the Python values that its code may read."""

    graph: fx.Graph
    reach: Reach
    answers: list[Any]
    """The answers to questions about sizes (`Decisions`)."""


def trace(module: nn.Module, forward: Callable[..., Any], given: Sequence[Any] = ()) -> Trace:
    """Trace `forward`, called with `module` as `self`, as a torch.fx graph in which layers are nodes.

    Inner modules that cannot be traced, or that set attributes, are nodes too. The values that the forward sets are
    restored. The first questions about sizes get the answers `given`; nodes check all answers in each run of the graph.
    UntraceableError if the forward itself cannot be traced, sets values that outlive it, keeps tensors, draws random
    numbers, may read values that cannot be watched, or asks for the memory layout of a tensor.
    """
    opaque: set[nn.Module] = set()
    with one_at_a_time:
        for name in [name for name in vars(module) if name.startswith(_OF_FX)]:  # of an earlier graph
            delattr(module, name)
        tracer = _Tracer(module, forward, opaque, given)
        while (graph := _attempt(tracer)) is None:
            tracer = _Tracer(module, forward, opaque, given)
        watched = [m for m in module.modules() if m is module or m not in opaque]
        reach = Reach(watched, tracer.through(), forward, tracer.ran)
    for node in graph.nodes:
        if node.op == "call_method" and node.target in _LAYOUT:
            raise UntraceableError(f"it asks for {node.target}() of a tensor")
    if reach.unseen:
        raise UntraceableError(f"it may read {reach.unseen}, and changes of that cannot be seen")
    return Trace(graph, reach, tracer.decisions.answers)


def _attempt(tracer: "_Tracer") -> fx.Graph | None:
    """Return the graph; if inner modules set attributes, add them to `opaque` and return None."""
    module, through, fault = tracer.module, tracer.through(), ""
    reached = partial(Reach, [*module.modules()], through, tracer.forward)
    before, states = Snapshot(reached()), _random_states()
    with torch.random.fork_rng(devices=()), torch.no_grad():
        profiler = sys.getprofile()
        sys.setprofile(lambda frame, event, _: tracer.ran.add(frame.f_code))
        try:
            graph = tracer.trace(module)
        except Exception as error:  # whatever its code raises when it meets a proxy
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        finally:
            getattr(profiler, "enable", partial(sys.setprofile, profiler))()  # cProfile's is an object
        draws = _random_states() != states
    random.setstate(states[0])
    changed = before.put_back(_OF_FX, partial(reached, None if tracer.has_other_threads else tracer.ran))
    keeps = tracer.forget()
    if fault:
        raise UntraceableError(fault)
    for owner, name in changed.items():
        if owner is module or owner not in through:
            raise UntraceableError(f"its forward sets or changes {name}")
        tracer.opaque.add(owner)
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

    def __init__(
        self, module: nn.Module, forward: Callable[..., Any], opaque: set[nn.Module], given: Sequence[Any]
    ) -> None:
        super().__init__()
        self.module, self.forward, self.opaque, self.decisions = module, forward, opaque, Decisions(given)
        self.ran: set[CodeType] = set()
        """The code that ran in the trace."""
        self.name_of = {tensor: name for name, tensor in (*module.named_buffers(), *module.named_parameters())}
        self.proxies: dict[str, fx.Proxy] = {}
        self.made: list[weakref.ref[fx.Proxy]] = []
        self.thread = threading.get_ident()
        self.has_other_threads = False
        """Whether other threads took part, whose code is not in `ran`."""

    def _is_elsewhere(self) -> bool:
        """Return True in another thread than that of the trace, and note that there is one."""
        self.has_other_threads |= threading.get_ident() != self.thread
        return threading.get_ident() != self.thread

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
        if m in self.opaque or isinstance(m, CompactLayer | BinaryMultiheadAttention | PReLU | Shift):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Trace into a module that the forward calls, or make it a node if it is a layer or cannot be traced.

        In other threads, run it.
        """
        if self._is_elsewhere():
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
        if self._is_elsewhere() or not isinstance(attr_val, Tensor) or attr_val not in self.name_of:
            return attr_val
        name = self.name_of[attr_val]
        if name not in self.proxies:
            self.proxies[name] = self.create_proxy("get_attr", name, (), {})
        return self.proxies[name]

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Return the assumed truth value of a condition on sizes; TraceError for other conditions."""
        return bool(self.decided(obj, require_truth)) if are_sizes(obj.node) else super().to_bool(obj)

    def decided(self, sizes: fx.Proxy, check: Callable[..., None]) -> Any:
        """Return the answer to a question about sizes, and add a node that checks it."""
        for user in sizes.node.users:
            if user.target is check:
                return user.args[1]
        answer, number = self.decisions.decide(sizes.node, check)
        self.create_proxy("call_function", check, (sizes, answer, number), {})
        return answer

    def create_arg(self, a: Any) -> Any:
        """Return the argument of a node for a value; torch.fx would make a plain dictionary of each kind of them."""
        if not isinstance(a, dict) or type(a) is dict:
            return super().create_arg(a)
        held: Any = a
        has_fields = is_dataclass(held)  # as an output of transformers
        values: Any = {f.name: getattr(held, f.name) for f in fields(held)} if has_fields else dict(a)
        made: Any = super().create_arg(values)
        return self.create_node("call_function", type(a), *(((), made) if has_fields else ((made,), {})))

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of a node."""
        self._is_elsewhere()
        proxy = _Proxy(node, self)
        self.made.append(weakref.ref(proxy))
        return proxy

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Return the forward and its arguments: `self`, and a placeholder for each parameter without a default."""
        names = required_parameters(self.forward)
        return self.forward, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]


class _Proxy(fx.Proxy):
    """A proxy that records `x += y` and its kin as writes into x; torch.fx would record x = x + y.

    Its shape is such a proxy too, and has a length.
    """

    def __getattr__(self, k: str) -> Any:
        if k == "shape":
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over as many values as the caller unpacks, or as there are sizes.

        That of torch.fx leaves reference cycles.
        """
        caller = sys._getframe(1)
        operation, count = caller.f_code.co_code[caller.f_lasti : caller.f_lasti + 2]
        is_unpacked = operation == opmap["UNPACK_SEQUENCE"]
        if not is_unpacked and not are_sizes(self.node):
            return self.tracer.iter(self)
        proxy: Any = self
        return (proxy[place] for place in range(count if is_unpacked else len(self)))

    def __len__(self) -> int:
        tracer: Any = self.tracer
        return int(tracer.decided(self, require_length)) if are_sizes(self.node) else super().__len__()

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
