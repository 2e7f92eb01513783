"""Binary training by others, on the layers that ours makes binary, with a scale per output channel."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

Optimize = Callable[[Iterable[Any]], Optimizer]
"""What makes an optimizer of parameters or parameter groups."""

Built = tuple[nn.Module, Optimizer]


class StraightThrough(torch.autograd.Function):
    """w = α·sign(latent) with α = mean |latent| per channel; the gradient passes as it is and nothing is saved."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor) -> Tensor:
        alpha = latent.abs().mean(tuple(range(1, latent.dim())), keepdim=True)
        return latent.sign().mul_(alpha)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class StraightThroughLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, StraightThrough.apply(self.weight), self.bias)


class StraightThroughConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, StraightThrough.apply(self.weight), self.bias)


def straight_through(model: nn.Module, names: Sequence[str], optimize: Optimize) -> Built:
    """What one writes by hand where nothing else is wanted."""
    forms = {nn.Linear: StraightThroughLinear, nn.Conv2d: StraightThroughConv2d}
    for layer in map(model.get_submodule, names):
        layer.__class__ = forms[type(layer)]
    return model, optimize(model.parameters())


def brevitas(model: nn.Module, names: Sequence[str], optimize: Optimize) -> Built:
    """Brevitas has one binary weight quantizer ready, of a constant scale; this one's is mean |w| per channel."""
    from brevitas.inject.enum import QuantType, RestrictValueType, ScalingImplType, ScalingPerOutputType, StatsOp
    from brevitas.nn import QuantConv2d, QuantLinear
    from brevitas.quant.solver import WeightQuantSolver

    class BinaryPerChannel(WeightQuantSolver):
        quant_type = QuantType.BINARY
        bit_width = 1
        signed = narrow_range = True
        scaling_impl_type = ScalingImplType.STATS
        scaling_stats_op = StatsOp.AVE
        scaling_per_output_type = ScalingPerOutputType.CHANNEL
        restrict_scaling_type = RestrictValueType.FP

    for name in names:
        layer = model.get_submodule(name)
        form = QuantLinear if isinstance(layer, nn.Linear) else QuantConv2d
        binary = form(**_geometry(layer), bias=layer.bias is not None, weight_quant=BinaryPerChannel)
        binary.load_state_dict(layer.state_dict())
        model.set_submodule(name, binary)
    return model, optimize(model.parameters())


def _geometry(layer: nn.Module) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in layer.__constants__ if not name.startswith("output")}


def parq(model: nn.Module, names: Sequence[str], optimize: Optimize, *, hard: bool) -> Built:
    """torchao's PARQ, an optimizer around the optimizer: the prox map moves the weights, latents are its state.

    It computes α at each tenth step, its usual period. `hard` maps to ±α from the start, else by PARQ's annealing.
    """
    logging.disable(logging.WARNING)  # torchao says which of its CUDA kernels are missing
    from torchao.prototype.parq import LSBQuantizer, ProxHardQuant, ProxPARQ, QuantOptimizer

    logging.disable(logging.NOTSET)
    binary = [model.get_submodule(name).weight for name in names]
    known = {id(weight) for weight in binary}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    base = optimize([{"params": binary, "quant_bits": 1}, {"params": others}])
    prox_map = ProxHardQuant() if hard else ProxPARQ(anneal_start=0, anneal_end=100_000)
    return model, QuantOptimizer(base, LSBQuantizer(), prox_map, quant_per_channel=True)
