"""Recognize the nodes of a torch.fx graph that can be epilogue steps of a kernel, batch norms among them."""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from proxconnect.kernels.steps import Add, Affine, Clamp, Gelu, Slope, Step
from proxconnect.layers.prelu import PReLU
from proxconnect.layers.react import Shift

_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
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
class EpilogueStep:
    """A record of a node of a torch.fx graph that maps a value entry by entry, or adds another value to it."""

    node: Node
    apply: Callable[..., Any]
    """Computes the step from the value and, if there is `other`, the addend."""
    other: Node | None = None
    """The node of the addend; None for a step that adds nothing."""
    module: nn.Module | None = None
    """The module that the node calls, if any."""
    has_fast_gelu: bool = False
    """True for a GELU that kernels may compute, with different rounding."""

    @property
    def channels(self) -> tuple[int, int] | None:
        """The number of channels and their dimension; None if the step has no parameters per channel."""
        if isinstance(self.module, nn.PReLU):
            return (self.module.weight.numel(), 1) if self.module.weight.numel() > 1 else None
        if isinstance(self.module, Shift):
            return self.module.channels, self.module.dim
        return (self.module.num_features, 1) if isinstance(self.module, _NORMS) else None

    @property
    def is_exact(self) -> bool:
        """True if kernels and torch surely round the step equally, as for clamps and additions; False for norms."""
        module, target = self.module, self.node.target
        is_norm_or_curve = isinstance(module, (*_NORMS, *_POINTWISE)) or target in _POINTWISE_FUNCTIONS
        return not (is_norm_or_curve or target in _CURVES)

    def kernel_step(self, channels: int) -> Step | None:
        """Return the step as the kernels take it, for this number of channels; None if they cannot run it."""
        module = self.module
        if self.other is not None:
            return Add()
        if isinstance(module, _NORMS):
            return norm_affine(module)
        if isinstance(module, Shift):
            return Affine(torch.ones(channels), module.shift.detach().float())  # rounded once, as a sum is
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one
            return Clamp(float(module.min_val), float(module.max_val))
        if isinstance(module, nn.ReLU) or (module is None and self.node.target in (*_RELUS, "relu", "relu_")):
            return Clamp(0.0, inf)
        if self.node.target is functional.relu6:
            return Clamp(0.0, 6.0)
        if self.has_fast_gelu:
            return Gelu()
        if isinstance(module, nn.LeakyReLU):
            return Slope(torch.full((channels,), float(module.negative_slope), dtype=torch.float32))
        if isinstance(module, nn.PReLU):
            return Slope(module.weight.detach().float().expand(channels).contiguous())
        return None


def is_identity(module: nn.Module) -> bool:
    """Return True if a module is in `eval()` and its class then returns its input, like `nn.Identity` or `nn.Dropout`.

    False for every module in `train()`, and for classes that are not known.
    """
    return type(module) in _IDENTITIES and not module.training


def step_of(node: Node, value: Node, modules: dict[str, nn.Module]) -> EpilogueStep | None:
    """Return `node`, a user of `value`, as an epilogue step on `value`; None if it cannot be one."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if node.args != (value,) or "forward" in vars(module):
            return None
        is_other = type(module) in (*_CLAMPS, *_POINTWISE, nn.LeakyReLU, nn.PReLU, PReLU, Shift)
        may_follow = can_fold(module) if type(module) in _NORMS else is_other
        return EpilogueStep(node, module, module=module) if may_follow else None
    if node.op == "call_method":
        if node.target in _METHODS and len(node.args) == 1 and not node.kwargs:
            return EpilogueStep(node, operator.methodcaller(str(node.target)))
        return _addition(node, value, ("add", "add_"))
    if node.target in (*_RELUS, *_POINTWISE_FUNCTIONS, functional.relu6) and node.args[:1] == (value,):
        rest, options = node.args[1:], dict(node.kwargs)
        if any(isinstance(a, Node) for a in (*rest, *options.values())):
            return None
        return EpilogueStep(node, lambda x: node.target(x, *rest, **options))  # type: ignore[operator]  # it is a function
    return _addition(node, value, _ADDITIONS)


def _addition(node: Node, value: Node, targets: tuple[Any, ...]) -> EpilogueStep | None:
    """Return `node` as a step that adds another node to `value` by one of `targets`; None if it is none."""
    if node.target not in targets or len(node.args) != 2 or node.kwargs:
        return None
    others = [argument for argument in node.args if argument is not value]
    if len(others) != 1 or not isinstance(others[0], Node):
        return None
    other = others[0]
    if (other.op, other.target, len(other.args), len(other.users)) == ("call_method", "clone", 1, 1):
        (other,) = other.all_input_nodes  # a copy was made to be written into
    return EpilogueStep(node, torch.add, other=other)


def is_gelu(step: EpilogueStep) -> bool:
    """Return True for `nn.GELU` and `functional.gelu` without an approximation."""
    if isinstance(step.module, nn.GELU):
        return step.module.approximate == "none"
    is_function = step.node.target is functional.gelu and len(step.node.args) == 1
    return is_function and step.node.kwargs.get("approximate", "none") == "none"


def run(steps: Iterable[EpilogueStep], value: Tensor, others: Iterable[Tensor]) -> Tensor:
    """Return a value after all steps, by torch; `others` are the addends, in the order of the steps."""
    added = iter(others)
    for step in steps:
        value = step.apply(value) if step.other is None else step.apply(value, next(added))
    return value


def for_kernels(steps: Iterable[EpilogueStep], channels: int) -> tuple[list[EpilogueStep], tuple[Step, ...]]:
    """Return the longest prefix of steps that the kernels support, and the kernels' steps for them."""
    taken: list[EpilogueStep] = []
    made: list[Step] = []
    for step in steps:
        kernel_step = step.kernel_step(channels)
        if kernel_step is None:
            break
        taken.append(step)
        made.append(kernel_step)
    return taken, tuple(made)


def can_fold(norm: nn.Module) -> bool:
    """Return True if a module is a batch norm that `norm_affine` may take, on this machine.

    It must be in `eval()`, with statistics, all float32 on the CPU, and torch's batch norm must round as fma does; see
    `adds_in_one_step`.
    """
    if not isinstance(norm, _BatchNorm) or norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    tensors = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return all(t is None or (t.dtype is torch.float32 and t.is_cpu) for t in tensors) and adds_in_one_step()


def norm_affine(norm: _BatchNorm) -> Affine | None:
    """Return fma(x, a, b), equal to the bit to a batch norm that `can_fold` accepts; None unless a, b are finite."""
    assert norm.running_mean is not None
    zero = torch.zeros_like(norm.running_mean)
    a = _at(1.0, norm, zero, None)
    b = _at(0.0, norm, norm.running_mean, norm.bias)
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return None
    return Affine(a, b)


def _at(x: float, norm: _BatchNorm, mean: Tensor, bias: Tensor | None) -> Tensor:
    """Return the norm of x in every channel, with this mean and bias instead of its own."""
    image = torch.full((1, mean.numel(), 1, 1), x, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    answer = functional.batch_norm(image, mean, norm.running_var, norm.weight, bias, eps=norm.eps)
    return answer.detach().reshape(-1).contiguous()


@cache
def adds_in_one_step() -> bool:
    """Return True if torch's batch norm rounds x·a + b once, as fma does, on 64 random numbers on this machine."""
    generator = torch.Generator().manual_seed(0)
    x, mean, weight, bias = (torch.randn(64, generator=generator, dtype=torch.float32) for _ in range(4))
    variance = torch.rand(64, generator=generator, dtype=torch.float32) + 0.1
    norm = nn.BatchNorm2d(64, dtype=torch.float32).eval()
    norm.load_state_dict({"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance,
                          "num_batches_tracked": torch.tensor(0)})  # fmt: skip
    step = norm_affine(norm)
    assert step is not None
    exact = (x.double() * step.a.double() + step.b.double()).float()
    return torch.equal(functional.batch_norm(x[None, :, None, None], mean, variance, weight, bias).reshape(-1), exact)
