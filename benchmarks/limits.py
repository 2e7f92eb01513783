"""How fast a network could run at most: its multiply-adds, each at the rate that its kind reaches on one large product.

A limit of this kind leaves out everything else: norms, rounding, memory, calls from Python.
"""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import proxconnect as pc
from proxconnect import kernels
from proxconnect.cli.bench.timing import interleaved
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.packed import PackedLayer
from proxconnect.deploy.packed.layers.int8 import Int8Conv2d, Int8Linear
from proxconnect.inspection.macs import count

FLOATS, INT8, FLOAT_SIGNS, INT8_SIGNS, SIGNS = (
    "floats", "8 bits", "floats times signs", "8 bits times signs", "signs times signs"
)  # fmt: skip
SIZE = 1024


def rates(rounds: int = 7) -> dict[str, float]:
    """Multiply-adds a second of each kind: a product of `SIZE` in all three dimensions; floats by torch."""
    x, weight = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    works: dict[str, Callable[[], object]] = {FLOATS: lambda: functional.linear(x, weight)}
    layers: Mapping[str, tuple[str | None, Mapping[str, Any]]] = {
        FLOAT_SIGNS: (None, {}), INT8_SIGNS: (None, {"inputs": "int8"}), SIGNS: ("poly", {}),
    }  # fmt: skip
    if kernels.is_built():
        for kind, (activations, packing) in layers.items():
            model = pc.binarize(nn.Sequential(nn.Linear(SIZE, SIZE)), "bnn++", activations, keep=None).eval()
            works[kind] = _bound(pc.pack(model, **packing), x)
        works[INT8] = _bound(pc.pack(_float_beside_binary(), remainder="int8")[0], x)
    return {kind: SIZE**3 / median(seconds) for kind, seconds in interleaved(works, rounds).items()}


def _bound(model: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    return lambda: model(x)


def _float_beside_binary() -> nn.Module:
    layers = nn.Sequential(nn.Linear(SIZE, SIZE), nn.Linear(SIZE, 1), nn.Linear(1, 1))
    return pc.binarize(layers, "bnn++", None, keep=("0", "2")).eval()


def multiply_adds(packed: nn.Module, example: Any) -> dict[str, int]:
    """The multiply-adds of one run, by kind."""
    with layer_by_layer(packed):
        by_module = count(packed, example).macs
    found = dict.fromkeys((FLOATS, INT8, FLOAT_SIGNS, INT8_SIGNS, SIGNS), 0)
    for module, amount in by_module.items():
        found[_kind(module)] += amount
    return {kind: amount for kind, amount in found.items() if amount}


def _kind(module: nn.Module) -> str:
    if isinstance(module, PackedLayer):
        if module.spec.binary_input:
            return SIGNS
        return INT8_SIGNS if getattr(module, "inputs", None) == "int8" else FLOAT_SIGNS
    return INT8 if isinstance(module, Int8Conv2d | Int8Linear) else FLOATS


def seconds(packed: nn.Module, example: Any, reached: Mapping[str, float]) -> float:
    """The least time of one run if nothing but multiply-adds took time, by rates as `rates` gives."""
    return sum(amount / reached[kind] for kind, amount in multiply_adds(packed, example).items())
