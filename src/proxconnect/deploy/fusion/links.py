"""What may follow a product in one pass: operations on each entry by itself, or on each channel's."""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional

from proxconnect.deploy.fusion.mutation import is_copy
from proxconnect.deploy.fusion.norms import affine_of, can_fold
from proxconnect.kernels.epilogue import Add, Affine, Clamp, Slope, Step
from proxconnect.layers.react import Shift

_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_CLAMPS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
_POINTWISE = (
    nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.SELU, nn.CELU, nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink,
    nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Threshold,
)  # fmt: skip
_RELUS: tuple[Any, ...] = (functional.relu, functional.relu_, torch.relu, torch.relu_)
_POINTWISE_FUNCTIONS: tuple[Any, ...] = (
    functional.gelu, functional.silu, functional.mish, functional.elu, functional.selu, functional.celu,
    functional.hardswish, functional.hardsigmoid, functional.leaky_relu, functional.softplus, functional.softsign,
    functional.tanh, functional.sigmoid, torch.tanh, torch.sigmoid,
)  # fmt: skip
_ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add)
_CURVES = {"tanh", "tanh_", "sigmoid", "sigmoid_"}
_METHODS = {"relu", "relu_", *_CURVES}


@dataclass(frozen=True)
class Link:
    """One operation of a chain: a node of the graph, run by `apply` on the value so far and, if it adds, on another."""

    node: Node
    apply: Callable[..., Any]
    other: Node | None = None
    """What is added; None for an operation on the value alone."""
    module: nn.Module | None = None

    @property
    def channels(self) -> int | None:
        """For how many channels it has numbers; None where it has the same for all."""
        if isinstance(self.module, nn.PReLU):
            return self.module.weight.numel() if self.module.weight.numel() > 1 else None
        if isinstance(self.module, Shift):
            return self.module.channels
        return self.module.num_features if isinstance(self.module, _NORMS) else None

    @property
    def dim(self) -> int | None:
        """The dimension of these channels; None where it has the same numbers for all."""
        if self.channels is None:
            return None
        return self.module.dim if isinstance(self.module, Shift) else 1

    @property
    def is_exact(self) -> bool:
        """Whether the kernels and torch round it alike on every machine, so that equal inputs give equal bits."""
        module, target = self.module, self.node.target
        is_norm_or_curve = isinstance(module, (*_NORMS, *_POINTWISE)) or target in _POINTWISE_FUNCTIONS
        return not (is_norm_or_curve or target in _CURVES)

    def fits(self, channels: int, *, are_images: bool) -> bool:
        """Whether its numbers can be those of images, or of rows, of so many channels."""
        return self.channels is None or (self.channels == channels and self.dim in ((1, -3) if are_images else (1, -1)))

    def step(self, channels: int) -> Step | None:
        """How the kernels do it, to the bit as torch does; None where they do not."""
        module = self.module
        if self.other is not None:
            return Add()
        if isinstance(module, _NORMS):
            return affine_of(module)
        if isinstance(module, Shift):
            return Affine(torch.ones(channels), module.shift.detach().float())  # rounded once, as a sum is
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one
            return Clamp(float(module.min_val), float(module.max_val))
        if isinstance(module, nn.ReLU) or (module is None and self.node.target in (*_RELUS, "relu", "relu_")):
            return Clamp(0.0, inf)
        if self.node.target is functional.relu6:
            return Clamp(0.0, 6.0)
        if isinstance(module, nn.LeakyReLU):
            return Slope(torch.full((channels,), float(module.negative_slope), dtype=torch.float32))
        if isinstance(module, nn.PReLU):
            return Slope(module.weight.detach().float().expand(channels).contiguous())
        return None


def is_nothing(module: nn.Module) -> bool:
    """Whether a module gives back its input in evaluation."""
    return type(module) in _NOTHING and not module.training


def link_of(node: Node, value: Node, modules: dict[str, nn.Module]) -> Link | None:
    """The link that `node` is, whose input is `value`; None where it is none."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return Link(node, module, module=module) if node.args == (value,) and _may_follow(module) else None
    if node.op == "call_method":
        plain = node.target in _METHODS and len(node.args) == 1 and not node.kwargs
        return Link(node, _method(str(node.target))) if plain else _addition(node, value, ("add", "add_"))
    if node.target in (*_RELUS, *_POINTWISE_FUNCTIONS, functional.relu6) and node.args[:1] == (value,):
        rest, options = node.args[1:], dict(node.kwargs)
        if any(isinstance(a, Node) for a in (*rest, *options.values())):
            return None
        return Link(node, lambda x: node.target(x, *rest, **options))  # type: ignore[operator]  # it is a function
    return _addition(node, value, _ADDITIONS)


def _may_follow(module: nn.Module) -> bool:
    if "forward" in vars(module):
        return False
    if type(module) in _NORMS:
        return can_fold(module)
    return type(module) in (*_CLAMPS, *_POINTWISE, nn.LeakyReLU, nn.PReLU, Shift)


def _addition(node: Node, value: Node, targets: tuple[Any, ...]) -> Link | None:
    """The link that adds another tensor."""
    if node.target not in targets or len(node.args) != 2 or node.kwargs:
        return None
    others = [argument for argument in node.args if argument is not value]
    if len(others) != 1 or not isinstance(others[0], Node):
        return None
    other = others[0]
    source = other.args[0] if is_copy(other) and len(other.users) == 1 else other  # a copy was made to be written into
    return Link(node, torch.add, other=source if isinstance(source, Node) else other)


def steps_of(links: Sequence[Link], channels: int) -> tuple[Step, ...]:
    """The steps of as many of the first links as the kernels do."""
    steps: list[Step] = []
    for link in links:
        step = link.step(channels)
        if step is None:
            break
        steps.append(step)
    return tuple(steps)


def run(links: Sequence[Link], value: Tensor, others: Iterable[Tensor]) -> Tensor:
    """What the links make of a value, one after another, by torch; `others` are what they add."""
    added = iter(others)
    for link in links:
        value = link.apply(value) if link.other is None else link.apply(value, next(added))
    return value


def _method(name: str) -> Callable[[Tensor], Any]:
    return lambda x: getattr(x, name)()


def chain_from(head: Node, modules: dict[str, nn.Module], channels: int, *, are_images: bool) -> list[Link]:
    """The links that follow `head`, images or rows of so many channels.

    Each alone reads what the one before gives, and none has numbers for others than the channels, as a norm behind rows
    may have.
    """
    links: list[Link] = []
    value = head
    while len(value.users) == 1:
        (node,) = value.users
        link = link_of(node, value, modules)
        if link is None or not link.fits(channels, are_images=are_images):
            break
        links.append(link)
        value = node
    return links
