"""Means over all pixels of images, as a fused operation."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional

from proxconnect.deploy.fusion.operation import Match, Operation, Rewriting
from proxconnect.kernels.pixel_means import PixelMeans as Kernel

_ONE: tuple[Any, ...] = (1, (1, 1), [1, 1])
"""The output sizes of an adaptive pool that takes the mean over all pixels."""


class PixelMeans(Operation):
    """The fused operation of a mean over height and width, or of an adaptive average pool to one pixel."""

    name = "means of images"
    has_channels = False

    def __init__(self, layer: Callable[[Tensor], Tensor], *, keepdim: bool) -> None:
        super().__init__(Kernel(keepdim), (), are_images=True)
        self.layer, self.lost_dims = layer, 0 if keepdim else 2

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of a mean over all pixels of images; None for other nodes."""
        if not work.has_images or not node.args or not isinstance(node.args[0], Node):
            return None
        module = work.module_of(node)
        if type(module) is nn.AdaptiveAvgPool2d:
            is_mean = module.output_size in _ONE
            return Match(cls(module, keepdim=True), [node], node.args, [module]) if is_mean else None
        options = _options_of(node)
        if options is None:
            return None
        call: Any = operator.methodcaller("mean", **options)
        return Match(cls(call, keepdim=bool(options["keepdim"])), [node], node.args[:1])


def _options_of(node: Node) -> dict[str, Any] | None:
    """Return `dim` and `keepdim` of a node that takes a mean over all pixels by a function or method, or None."""
    options: dict[str, Any]
    if node.target is functional.adaptive_avg_pool2d:
        options = dict(zip(("input", "output_size"), node.args, strict=False)) | dict(node.kwargs)
        return {"dim": (2, 3), "keepdim": True} if options["output_size"] in _ONE else None
    if node.target not in ("mean", torch.mean):
        return None
    options = {"keepdim": False, **dict(zip(("input", "dim", "keepdim"), node.args, strict=False)), **node.kwargs}
    del options["input"]
    dim = options.get("dim")
    is_of_pixels = isinstance(dim, tuple | list) and sorted(map(str, dim)) in (["2", "3"], ["-1", "-2"])
    is_plain = options.keys() == {"dim", "keepdim"} and isinstance(options["keepdim"], bool)
    return options if is_of_pixels and is_plain else None
