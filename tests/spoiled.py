"""Networks with a number in them that is none, for tests of what becomes of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import proxconnect as pc
from layer_kinds import KINDS

NAN, INF = float("nan"), float("inf")
BAD = {"nan": NAN, "inf": INF, "-inf": -INF}
LARGE = 1e30

CHANNELS = 8

INPUTS: dict[str, dict[str, Any]] = {
    "floats": {},
    "signs": {"activations": "poly"},
    "accumulated": {"activations": "poly", "accumulator": pc.Accumulator(4)},
    "shifted": {"activations": "bnn"},
}
"""What the layers of a network multiply by their weights: options of `binarize`; those of "shifted" have thresholds."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Net(nn.Sequential):
    """A layer of a kind, its batch norm, and a linear layer, each of whose outputs all of an example reaches."""

    def __init__(self, kind: str) -> None:
        first = KINDS[kind].make(CHANNELS)
        answer = first(KINDS[kind].input(CHANNELS))
        norm = _NORMS[len(KINDS[kind].sizes)](answer.shape[1])
        super().__init__(first, norm, nn.Flatten(), nn.Linear(answer[0].numel(), 5))


def net(kind: str, inputs: str, weights: str = "bnn++", **options: Any) -> nn.Module:
    """One whose layers are binary, after a step of its batch norm."""
    model = pc.binarize(Net(kind), weights, keep=None, **INPUTS[inputs], **options)
    if inputs == "shifted":
        pc.add_thresholds(model)
    model(KINDS[kind].input(CHANNELS))
    return model


@contextmanager
def spoiled(tensor: Tensor, number: float) -> Iterator[None]:
    """Have its first entry be that number."""
    first, before = (0,) * tensor.dim(), tensor.detach().clone()
    with torch.no_grad():
        tensor[first] = number
    yield
    with torch.no_grad():
        tensor.copy_(before)


Place = Callable[[Any], Tensor]
"""A tensor of a `net`."""

_BESIDE_WEIGHTS: dict[str, Place] = {
    "bias": lambda model: model[0].bias,
    "shift": lambda model: model[0].input_shift.shift,
    "norm's weight": lambda model: model[1].weight,
    "norm's bias": lambda model: model[1].bias,
    "norm's mean": lambda model: model[1].running_mean,
    "norm's variance": lambda model: model[1].running_var,
}
PLACES: dict[str, Place] = {
    "latent": lambda model: model[0].latent,
    "second latent": lambda model: model[3].latent,
    **_BESIDE_WEIGHTS,
}
"""Those of a binary one."""
PACKED_PLACES: dict[str, Place] = {
    "scale": lambda model: model[0].scale,
    "second scale": lambda model: model[3].scale,
    **_BESIDE_WEIGHTS,
}
"""Those of a packed one."""


def places(all_of: Mapping[str, Place], inputs: str) -> dict[str, Place]:
    """Those that a `net` with such inputs has: a shift only if they are "shifted"."""
    return {name: place for name, place in all_of.items() if name != "shift" or inputs == "shifted"}
