"""Groups of parameters for an optimizer."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from proxconnect._support.text import some


def grouped(network: nn.Module, undecayed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the trained parameters of `network`, those that fit a pattern in a group without weight decay.

    ValueError for a pattern that fits none.
    """
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for pattern in undecayed:
        if not any(fnmatchcase(name, pattern) for name in trained):
            raise ValueError(f"undecayed: {pattern!r} fits no parameter; there are {some(list(trained))}")
    spared = {name for name in trained if any(fnmatchcase(name, pattern) for pattern in undecayed)}
    groups: list[dict[str, Any]] = [{"params": [p for name, p in trained.items() if name not in spared]}]
    if spared:
        groups.append({"params": [trained[name] for name in trained if name in spared], "weight_decay": 0.0})
    return [group for group in groups if group["params"]]
