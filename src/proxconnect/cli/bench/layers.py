"""Each binary layer by itself, float beside packed, on the input that it gets in its network."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from proxconnect.cli.bench.timing import Spread, interleaved, quotients
from proxconnect.cli.examples import run
from proxconnect.deploy.packed import PackedLayer
from proxconnect.inspection.macs import count

_TURN = 0.002
"""Seconds of a turn: many calls of a small layer, one of a large one."""


class Unit(NamedTuple):
    """A binary layer, or an attention with its binary projections, timed as one in both forms."""

    name: str
    members: Mapping[str, PackedLayer]
    float_form: nn.Module
    packed_form: nn.Module


def units(floats: nn.Module, packed: nn.Module) -> list[Unit]:
    """Return the binary layers of `packed` and their counterparts in `floats`, in order of registration."""
    float_modules = dict(floats.named_modules(remove_duplicate=False))
    found: dict[str, dict[str, PackedLayer]] = {}
    for name, module in packed.named_modules():
        if isinstance(module, PackedLayer):
            found.setdefault(_counterpart(name, float_modules), {})[name] = module
    return [Unit(name, members, float_modules[name], packed.get_submodule(name)) for name, members in found.items()]


def time_layers(floats: nn.Module, packed: nn.Module, example: Any, rounds: int) -> list[dict[str, Any]]:
    """Return `layers` of `bench --json`. If other code takes the weight of a layer, it has 0 calls and no spreads."""
    found = units(floats, packed)
    calls = _captured(packed, [unit.packed_form for unit in found], example)
    macs = count(floats, example).macs
    return [
        _times(unit, calls.get(unit.packed_form), sum(macs[m] for m in unit.float_form.modules()), rounds)
        for unit in found
    ]


def seconds_in_run(layer: Mapping[str, Any]) -> tuple[float, float]:
    """Return the seconds of float and of packed in one run of the network, from a row of `time_layers`."""
    if not layer["calls"]:
        return 0.0, 0.0
    return layer["calls"] * layer["float_seconds"].median, layer["calls"] * layer["packed_seconds"].median


def _counterpart(name: str, float_modules: Mapping[str, nn.Module]) -> str:
    """Return the attention around a layer, which in float computes its projections itself; else the layer or owner."""
    parts = name.split(".")
    around = [".".join(parts[:end]) for end in range(len(parts), -1, -1)]
    there = [candidate for candidate in around if candidate in float_modules]
    return next((c for c in there if isinstance(float_modules[c], nn.MultiheadAttention)), there[0])


@dataclass
class _Call:
    """The first arguments of a module, and how often it is called."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    times: int = 0


def _captured(model: nn.Module, modules: Iterable[nn.Module], example: Any) -> dict[nn.Module, _Call]:
    calls: dict[nn.Module, _Call] = {}

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        if module not in calls:  # copies, since later modules may write into the input
            calls[module] = _Call(*tree_map_only(Tensor, Tensor.clone, (args, kwargs)))
        calls[module].times += 1

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(keep, with_kwargs=True).remove)
        run(model, example)
    return calls


def _times(unit: Unit, call: _Call | None, macs: int, rounds: int) -> dict[str, Any]:
    spreads: list[Spread | None] = [None, None, None]
    if call is not None:
        works = {
            "float": lambda: unit.float_form(*call.args, **call.kwargs),
            "packed": lambda: unit.packed_form(*call.args, **call.kwargs),
        }
        floats, packed = interleaved(works, rounds, _TURN).values()
        spreads = [Spread.of(seconds) for seconds in (floats, packed, quotients(floats, packed))]
    specs = [layer.spec for layer in unit.members.values()]
    return {
        "name": unit.name,
        "kind": type(unit.float_form).__name__,
        "members": list(unit.members),
        "shapes": [spec.shape for spec in specs],
        "calls": 0 if call is None else call.times,
        "macs": macs,
        **dict(zip(("float_seconds", "packed_seconds", "speedup"), spreads, strict=True)),
        "float_bytes": sum(spec.entries * spec.dtype.itemsize for spec in specs),
        "packed_bytes": sum(spec.tensor_bytes for spec in specs),
    }
