"""Each binary layer by itself, float beside packed, on the input that it gets in its network."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from proxconnect._support.example import arguments
from proxconnect.cli.bench.timing import Spread, interleaved, quotients
from proxconnect.deploy.packed import PackedLayer
from proxconnect.inspection.macs import count

_TURN = 0.002
"""Seconds of a turn: many calls of a small layer, one of a large one."""


@dataclass(frozen=True)
class LayerTimes:
    """What is timed as one: a binary layer, or an attention with its binary projections."""

    name: str
    kind: str
    """The class of its float form."""
    members: tuple[str, ...]
    """The binary layers in it."""
    shapes: tuple[tuple[int, ...], ...]
    """Those of their weights."""
    calls: int
    """How often one run of the network calls it; 0 where other code takes its weight, and then there are no times."""
    macs: int
    """Its multiply-adds in one run."""
    float_seconds: Spread | None
    """Those that a call of its float form takes."""
    packed_seconds: Spread | None
    """Those that a call of its packed form takes."""
    speedup: Spread | None
    """Float by packed, round by round."""
    float_bytes: int
    """Of the weights, as those that follow."""
    packed_bytes: int

    @property
    def seconds(self) -> tuple[float, float]:
        """What float and packed take of one run; 0 where it is not called."""
        spreads = (self.float_seconds, self.packed_seconds)
        float_all, packed_all = (0.0 if spread is None else self.calls * spread.median for spread in spreads)
        return float_all, packed_all


@dataclass(frozen=True)
class Unit:
    """What is timed as one, in both networks."""

    name: str
    members: Mapping[str, PackedLayer]
    float_form: nn.Module
    packed_form: nn.Module


def units(floats: nn.Module, packed: nn.Module) -> list[Unit]:
    """The binary layers of `packed` and their counterparts in `floats`, in order of registration."""
    float_modules = dict(floats.named_modules(remove_duplicate=False))
    found: dict[str, dict[str, PackedLayer]] = {}
    for name, module in packed.named_modules():
        if isinstance(module, PackedLayer):
            found.setdefault(_counterpart(name, float_modules), {})[name] = module
    return [Unit(name, members, float_modules[name], packed.get_submodule(name)) for name, members in found.items()]


def measure(units: Iterable[Unit], floats: nn.Module, packed: nn.Module, example: Any, rounds: int) -> list[LayerTimes]:
    """The times of every unit, both forms on the input that the packed network gives it."""
    units = list(units)
    calls = _captured(packed, [unit.packed_form for unit in units], example)
    macs = count(floats, example).macs
    return [
        _times(unit, calls.get(unit.packed_form), sum(macs[m] for m in unit.float_form.modules()), rounds)
        for unit in units
    ]


def _counterpart(name: str, float_modules: Mapping[str, nn.Module]) -> str:
    """The attention around a layer, which in float computes its projections by itself; else the layer, or its owner."""
    parts = name.split(".")
    around = [".".join(parts[:end]) for end in range(len(parts), -1, -1)]
    there = [candidate for candidate in around if candidate in float_modules]
    return next((c for c in there if isinstance(float_modules[c], nn.MultiheadAttention)), there[0])


@dataclass
class _Call:
    """What a module was called with first, and how often it was."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    times: int = 0


def _captured(model: nn.Module, modules: Iterable[nn.Module], example: Any) -> dict[nn.Module, _Call]:
    calls: dict[nn.Module, _Call] = {}

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        if module not in calls:  # copies, for what follows may write into its input
            calls[module] = _Call(*tree_map_only(Tensor, Tensor.clone, (args, kwargs)))
        calls[module].times += 1

    args, kwargs = arguments(model, example)
    with _hooked(modules, keep):
        model(*args, **kwargs)
    return calls


def _times(unit: Unit, call: _Call | None, macs: int, rounds: int) -> LayerTimes:
    float_seconds = packed_seconds = speedup = None
    if call is not None:
        works = {
            "float": lambda: unit.float_form(*call.args, **call.kwargs),
            "packed": lambda: unit.packed_form(*call.args, **call.kwargs),
        }
        taken = interleaved(works, rounds, _TURN)
        float_seconds, packed_seconds = Spread.of(taken["float"]), Spread.of(taken["packed"])
        speedup = Spread.of(quotients(taken["float"], taken["packed"]))
    specs = [layer.spec for layer in unit.members.values()]
    return LayerTimes(
        name=unit.name,
        kind=type(unit.float_form).__name__,
        members=tuple(unit.members),
        shapes=tuple(spec.shape for spec in specs),
        calls=0 if call is None else call.times,
        macs=macs,
        float_seconds=float_seconds,
        packed_seconds=packed_seconds,
        speedup=speedup,
        float_bytes=sum(spec.entries * spec.dtype.itemsize for spec in specs),
        packed_bytes=sum(spec.tensor_bytes for spec in specs),
    )


@contextmanager
def _hooked(modules: Iterable[nn.Module], before: Any) -> Iterator[None]:
    """Have `before` called with (module, args, kwargs)."""
    handles: list[Any] = []
    try:
        for module in modules:
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
