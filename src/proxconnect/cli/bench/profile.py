"""Where the time of a network goes: by modules, and in fused graphs by operations."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

from torch import fx, nn

from proxconnect._support.example import arguments
from proxconnect.cli.bench.timing import Spread
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.packed import PackedLayer


@dataclass(frozen=True)
class Part:
    """A module without the modules that it calls, or an operation of a fused graph."""

    name: str
    """The qualified name of a module, "" for the model itself, or the name of an operation's node."""
    kind: str
    is_binary: bool
    """Whether it multiplies by binary weights; what is fused into the product counts too."""
    calls: int
    """Its calls in a run of the model."""
    seconds: Spread
    """Seconds of all its calls in a run."""


def profile(model: nn.Module, example: Any, rounds: int) -> tuple[Part, ...]:
    """Split the time of `model` on `example` into parts, in the order of their first calls.

    Hooks time the modules; they keep torch from the fast path of its transformer layers. An interpreter times the
    operations of fused graphs. Both cost some microseconds per call, which count for the module around.
    """
    args, kwargs = arguments(model, example)
    model(*args, **kwargs)
    clocks = [_Clock() for _ in range(rounds)]
    for clock in clocks:
        with _watched(model, clock):
            model(*args, **kwargs)
    return tuple(
        Part(*key, calls, Spread.of([clock.seconds[key] for clock in clocks if key in clock.seconds]))
        for key, calls in clocks[-1].calls.items()
    )


def by_kind(parts: Iterable[Part]) -> dict[str, float]:
    """Add up the seconds in a run by class or operation, longest first."""
    seconds: dict[str, float] = {}
    for part in parts:
        seconds[part.kind] = seconds.get(part.kind, 0.0) + part.seconds.median
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def binary_share(parts: Iterable[Part]) -> float:
    """Return the share of the time in products by binary weights; 0 without any time."""
    parts = list(parts)
    whole = sum(part.seconds.median for part in parts)
    return sum(part.seconds.median for part in parts if part.is_binary) / whole if whole else 0.0


_Key = tuple[str, str, bool]
"""Name, kind and is_binary of a part."""


@dataclass
class _Clock:
    """Adds up the time of each part while it is the innermost one that runs."""

    seconds: dict[_Key, float] = field(default_factory=dict)
    calls: dict[_Key, int] = field(default_factory=dict)
    running: list[_Key] = field(default_factory=list)
    since: float = 0.0

    def enter(self, key: _Key, *_: Any) -> None:
        self._turn()
        self.running.append(key)
        self.seconds.setdefault(key, 0.0)
        self.calls[key] = self.calls.get(key, 0) + 1

    def leave(self, *_: Any) -> None:
        self._turn()
        self.running.pop()

    def _turn(self) -> None:
        """Add the time since the last turn to the part that ran."""
        now = perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now


@contextmanager
def _watched(model: nn.Module, clock: _Clock) -> Iterator[None]:
    """Let the clock follow every module outside fused graphs, and every operation inside."""
    inside: set[nn.Module] = set()
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if module in inside:  # a hook there would prevent the graph
                continue
            if (fused := graph_forward(module)) is not None:
                inside.update(module.modules())
                stack.enter_context(fused.run_by(lambda graph: _NodeClock(graph, clock).run))
            key = (name, type(module).__name__, isinstance(module, PackedLayer))
            stack.callback(module.register_forward_pre_hook(partial(clock.enter, key)).remove)
            stack.callback(module.register_forward_hook(clock.leave).remove)
        yield


class _NodeClock(fx.Interpreter):
    """Run a graph while a clock follows its nodes."""

    def __init__(self, graph: fx.GraphModule, clock: _Clock) -> None:
        super().__init__(graph)
        self.clock = clock

    def run_node(self, n: fx.Node) -> Any:
        if not n.op.startswith("call"):
            return super().run_node(n)
        called = self.module.get_submodule(str(n.target)) if n.op == "call_module" else n.target
        is_object = isinstance(called, nn.Module) or type(called).__module__.startswith("proxconnect.")
        kind = type(called).__name__ if is_object else getattr(called, "__name__", str(called))
        is_binary = isinstance(called, PackedLayer) or getattr(called, "is_binary", False)
        self.clock.enter((str(n.target) if n.op == "call_module" else n.name, kind, is_binary))
        try:
            return super().run_node(n)
        finally:
            self.clock.leave()
