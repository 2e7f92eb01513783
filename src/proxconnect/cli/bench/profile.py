"""Where the time of a network goes: by modules and fused operations, and by binary layers, float beside packed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map_only

from proxconnect._support.example import arguments
from proxconnect.cli.bench.timing import Spread, interleaved, quotients
from proxconnect.cli.networks import run
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.packed import PackedLayer
from proxconnect.inspection.macs import count


@dataclass(frozen=True)
class SelfTime:
    """The time of a module without the modules that it calls, or of an operation of a fused graph."""

    name: str
    """The qualified name of a module, "" for the model itself, or the name of an operation's node."""
    kind: str
    """The name of the class of the module, or of the class or function of the operation."""
    is_binary: bool
    """Whether it multiplies by binary weights, perhaps with further operations fused into the product."""
    calls: int
    seconds: Spread
    """The seconds of all its calls in one run of the network."""


def profile(model: nn.Module, example: Any, rounds: int) -> tuple[SelfTime, ...]:
    """Time the modules and operations of `model` on `example` over `rounds` runs, in the order of their first calls.

    Hooks time the modules; they keep torch from the fast path of its transformer layers. An interpreter times the
    operations of fused graphs. Both cost some microseconds per call, most of which count for the module around.
    """
    args, kwargs = arguments(model, example)
    model(*args, **kwargs)  # which makes graphs for such calls
    fused = _with_running_graphs(model, args, kwargs)
    clocks = [_Clock() for _ in range(rounds)]
    for clock in clocks:
        with _watched(model, clock, fused):
            model(*args, **kwargs)
    return tuple(
        SelfTime(*key, calls, Spread.of([clock.seconds[key] for clock in clocks if key in clock.seconds]))
        for key, calls in clocks[-1].calls.items()
    )


def by_kind(parts: Iterable[SelfTime]) -> dict[str, float]:
    """Return the seconds that all parts of a `kind` take in one run, by kind, the longest first."""
    seconds: dict[str, float] = {}
    for part in parts:
        seconds[part.kind] = seconds.get(part.kind, 0.0) + part.seconds.median
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def binary_share(parts: Sequence[SelfTime]) -> float:
    """Return the share of the time, in [0, 1], that the parts with binary weights take; 0 if there are no parts."""
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


def _with_running_graphs(model: nn.Module, args: Any, kwargs: Any) -> set[nn.Module]:
    """Run the model, and return the modules whose fused graphs ran. Some have one only for other calls."""
    found: set[nn.Module] = set()

    def noting(module: nn.Module, graph: fx.GraphModule) -> Any:
        def run_noted(*inputs: Any) -> Any:
            found.add(module)
            return graph(*inputs)

        return run_noted

    with ExitStack() as stack:
        for module in model.modules():
            if (graph := graph_forward(module)) is not None:
                stack.enter_context(graph.run_by(partial(noting, module)))
        model(*args, **kwargs)
    return found


@contextmanager
def _watched(model: nn.Module, clock: _Clock, fused: set[nn.Module]) -> Iterator[None]:
    """Let the clock follow every module outside the graphs of the `fused` modules, and every operation inside."""
    inside: set[nn.Module] = set()
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if module in inside:  # a hook there would prevent the graph
                continue
            if module in fused and (graph := graph_forward(module)) is not None:
                inside.update(module.modules())
                stack.enter_context(graph.run_by(lambda graph: _NodeClock(graph, clock).run))
            key = (name, type(module).__name__, isinstance(module, PackedLayer))
            stack.callback(module.register_forward_pre_hook(partial(clock.enter, key)).remove)
            stack.callback(module.register_forward_hook(clock.leave).remove)
        yield


class _NodeClock(fx.Interpreter):
    """An interpreter of a fused graph that times its operations with a clock."""

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


class Unit(NamedTuple):
    """A binary layer, or the module around binary parameters or projections, such as an attention: float and packed.

    `members` are its packed layers by qualified name.
    """

    name: str
    members: Mapping[str, PackedLayer]
    float_form: nn.Module
    packed_form: nn.Module


def units(floats: nn.Module, packed: nn.Module) -> list[Unit]:
    """Return the units to time in a float network and its packed form, in order of registration."""
    float_modules = dict(floats.named_modules(remove_duplicate=False))
    found: dict[str, dict[str, PackedLayer]] = {}
    for name, module in packed.named_modules():
        if isinstance(module, PackedLayer):
            parts = name.split(".")
            around = [".".join(parts[:end]) for end in range(len(parts), -1, -1)]
            there = [candidate for candidate in around if candidate in float_modules]
            # In float an attention computes its projections itself.
            attentions = (c for c in there if isinstance(float_modules[c], nn.MultiheadAttention))
            found.setdefault(next(attentions, there[0]), {})[name] = module
    return [Unit(name, members, float_modules[name], packed.get_submodule(name)) for name, members in found.items()]


def time_layers(floats: nn.Module, packed: nn.Module, example: Any, rounds: int) -> list[dict[str, Any]]:
    """Time each of `units` by itself, in float and packed, on its first input when `packed` runs on `example`.

    Returns a row for each: `layers` of `proxconnect bench --json` (docs/command-line.md). A layer that is not called,
    as when other code takes its weight, has 0 calls and None for times and speedup.
    """
    found = units(floats, packed)
    inputs: dict[nn.Module, tuple[Any, Any]] = {}
    calls: Counter[nn.Module] = Counter()

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        if module not in inputs:  # copies, since later modules may write into the input
            inputs[module] = tree_map_only(Tensor, Tensor.clone, (args, kwargs))
        calls[module] += 1

    with ExitStack() as stack:
        for unit in found:
            stack.callback(unit.packed_form.register_forward_pre_hook(keep, with_kwargs=True).remove)
        run(packed, example)
    macs = count(floats, example).macs
    return [_times(unit, inputs.get(unit.packed_form), calls[unit.packed_form], macs, rounds) for unit in found]


def seconds_in_run(layer: Mapping[str, Any]) -> tuple[float, float]:
    """Return the seconds that all calls of a layer, a row of `time_layers`, take in one run, in float and packed."""
    if not layer["calls"]:
        return 0.0, 0.0
    return layer["calls"] * layer["float_seconds"].median, layer["calls"] * layer["packed_seconds"].median


def _times(
    unit: Unit, given: tuple[Any, Any] | None, calls: int, macs: Mapping[nn.Module, int], rounds: int
) -> dict[str, Any]:
    spreads: list[Spread | None] = [None, None, None]
    if given is not None:
        args, kwargs = given
        works = {
            "float": partial(unit.float_form, *args, **kwargs),
            "packed": partial(unit.packed_form, *args, **kwargs),
        }
        floats, packed = interleaved(works, rounds, turn=0.002).values()  # many calls if it is small
        spreads = [Spread.of(seconds) for seconds in (floats, packed, quotients(floats, packed))]
    specs = [layer.spec for layer in unit.members.values()]
    return {
        "name": unit.name,
        "kind": type(unit.float_form).__name__,
        "members": list(unit.members),
        "shapes": [spec.shape for spec in specs],
        "input_bits": sorted({1 if spec.binary_input else 32 for spec in specs}),
        "calls": calls,
        "macs": sum(macs[module] for module in unit.float_form.modules()),
        **dict(zip(("float_seconds", "packed_seconds", "speedup"), spreads, strict=True)),
        "float_bytes": sum(spec.entries * spec.dtype.itemsize for spec in specs),
        "packed_bytes": sum(spec.tensor_bytes for spec in specs),
    }
