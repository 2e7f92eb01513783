"""How fast a network could run at most: its multiply-adds, each at the rate that its kind reaches here at best.

A limit of this kind leaves out everything else: norms, rounding, memory, calls from Python.
"""

from collections.abc import Callable, Mapping
from functools import partial
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
SIZES = (256, 512, 1024)


def rates(rounds: int = 9) -> dict[str, float]:
    """Multiply-adds a second of each kind at best: in square products of `SIZES`, and of floats in a convolution."""
    works: dict[tuple[str, int], Callable[[], object]] = {}
    for size in SIZES:
        works |= {(kind, size**3): work for kind, work in _products(size).items()}
    image, weight = torch.randn(1, 128, 28, 28), torch.randn(128, 128, 3, 3)
    convolve: Callable[[torch.Tensor], object] = partial(functional.conv2d, padding=1, weight=weight)
    if kernels.has_float_kernels():
        convolve = kernels.FusedFloatConv2d(weight, padding=(1, 1))
    works[FLOATS, 28**2 * weight.numel()] = partial(convolve, image)
    found: dict[str, float] = {}
    for (kind, amount), seconds in interleaved(works, rounds).items():
        found[kind] = max(found.get(kind, 0.0), amount / min(seconds))
    return found


def _products(size: int) -> dict[str, Callable[[], object]]:
    x, weight = torch.randn(size, size), torch.randn(size, size)
    works: dict[str, Callable[[], object]] = {FLOATS: lambda: functional.linear(x, weight)}
    if kernels.is_built():
        layers: Mapping[str, tuple[str | None, Mapping[str, Any]]] = {
            FLOAT_SIGNS: (None, {}), INT8_SIGNS: (None, {"inputs": "int8"}), SIGNS: ("poly", {}),
        }  # fmt: skip
        for kind, (activations, packing) in layers.items():
            model = pc.binarize(nn.Sequential(nn.Linear(size, size)), "bnn++", activations, keep=None).eval()
            works[kind] = partial(pc.pack(model, **packing), x)
        beside = nn.Sequential(nn.Linear(size, size), nn.Linear(size, 1), nn.Linear(1, 1))
        beside = pc.binarize(beside, "bnn++", None, keep=("0", "2")).eval()
        works[INT8] = partial(pc.pack(beside, remainder="int8")[0], x)
    return works


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
