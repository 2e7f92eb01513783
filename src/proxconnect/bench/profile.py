"""Where the time of a network goes, module by module."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from torch import fx, nn

from proxconnect.bench.timing import Spread
from proxconnect.example import arguments


@dataclass(frozen=True)
class Part:
    """A module that is called, by itself: without the modules that it calls."""

    name: str
    """Its qualified name; "" for the model itself."""
    kind: str
    """Its class."""
    calls: int
    """How often a run of the model calls it."""
    seconds: Spread
    """Those of all its calls in a run."""


def profile(model: nn.Module, example: Any, rounds: int) -> tuple[Part, ...]:
    """What takes the time of `model` on `example`, in the order of first calls; all parts together are the whole.

    It is seen by hooks, which take some microseconds each and keep torch from the fast path of its transformer layers.
    """
    args, kwargs = arguments(model, example)
    names = {module: name for name, module in model.named_modules()}
    taken: dict[nn.Module, list[float]] = {}
    calls: dict[nn.Module, int] = {}
    model(*args, **kwargs)
    for _ in range(rounds):
        clock = _Clock()
        with _watched(model, clock):
            model(*args, **kwargs)
        for module, seconds in clock.seconds.items():
            taken.setdefault(module, []).append(seconds)
        calls = clock.calls
    return tuple(
        Part(names[module], type(module).__name__, calls[module], Spread.of(seconds))
        for module, seconds in taken.items()
    )


def profile_graph(graph: fx.GraphModule, inputs: tuple[Any, ...], rounds: int) -> tuple[Part, ...]:
    """What takes the time of a graph on `inputs`, operation by operation, in order; the name is that of its node."""
    taken: dict[fx.Node, list[float]] = {}
    for number in range(rounds + 1):
        clock = _NodeClock(graph)
        clock.run(*inputs)
        if number:  # the first one warms up
            for node, seconds in clock.seconds.items():
                taken.setdefault(node, []).append(seconds)
    return tuple(Part(node.name, _operation(node), 1, Spread.of(seconds)) for node, seconds in taken.items())


def by_kind(parts: Iterable[Part]) -> dict[str, float]:
    """The seconds of each class or operation in a run, longest first."""
    seconds: dict[str, float] = {}
    for part in parts:
        seconds[part.kind] = seconds.get(part.kind, 0.0) + part.seconds.median
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _operation(node: fx.Node) -> str:
    """The class of the module that a node calls, or the name of its function or method."""
    if node.op == "call_module":
        assert node.graph.owning_module is not None
        return type(node.graph.owning_module.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


class _NodeClock(fx.Interpreter):
    """Runs a graph and keeps the time of what its nodes call."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.seconds: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        start = perf_counter()
        value = super().run_node(n)
        if n.op.startswith("call"):
            self.seconds[n] = perf_counter() - start
        return value


@dataclass
class _Clock:
    """Adds up the time of each module while it is the innermost one that runs."""

    seconds: dict[nn.Module, float] = field(default_factory=dict)
    calls: dict[nn.Module, int] = field(default_factory=dict)
    running: list[nn.Module] = field(default_factory=list)
    since: float = 0.0

    def enter(self, module: nn.Module, *_: Any) -> None:
        self._turn()
        self.running.append(module)
        self.seconds.setdefault(module, 0.0)
        self.calls[module] = self.calls.get(module, 0) + 1

    def leave(self, *_: Any) -> None:
        self._turn()
        self.running.pop()

    def _turn(self) -> None:
        """Give the time since the last turn to what has run since."""
        now = perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now


@contextmanager
def _watched(model: nn.Module, clock: _Clock) -> Iterator[None]:
    handles: list[Any] = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(clock.enter))
            handles.append(module.register_forward_hook(clock.leave))
        yield
    finally:
        for handle in handles:
            handle.remove()
