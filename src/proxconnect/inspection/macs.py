"""Multiply-adds of one run, by the module whose forward executes them."""

import warnings
from collections import Counter
from contextlib import ExitStack
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from proxconnect._support.example import of_one_sign, run, tensors_in


class Calls(TorchDispatchMode):
    """A dispatch mode that notes multiply-adds, shapes, dtypes and signs by module in a run; made by `count`."""

    def __init__(self, watched: tuple[type[nn.Module], ...]) -> None:
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self.macs: Counter[nn.Module] = Counter()
        """The multiply-adds of a module's forward, without those of its children."""
        self.output_shapes: dict[nn.Module, tuple[int, ...]] = {}
        """The shape of the first tensor of a module's first output."""
        self.input_types: dict[nn.Module, torch.dtype] = {}
        """The dtype of the first tensor of a module's first input."""
        self.called: set[nn.Module] = set()
        """The modules whose forward was called."""
        self.of_two_signs: set[nn.Module] = set()
        """The watched modules that had an input of both signs, after their input shift if they have one."""
        self._watched = watched
        self._running: list[nn.Module] = []
        self._formulas = flop_registry  # of two operations a multiply-add

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._running:
            self.macs[self._running[-1]] += self._macs(func.overloadpacket, args, kwargs or {}, result)
        return result

    def _macs(self, operation: Any, args: Any, kwargs: Any, result: Any) -> int:
        aten, ours = torch.ops.aten, torch.ops.proxconnect
        if operation in (ours.binary_linear, ours.weight_only_linear, ours.dynamic_int8_linear, ours.int8_linear):
            return int(result.numel() * args[0].shape[-1])
        if operation in (ours.binary_conv2d, ours.weight_only_conv2d, ours.dynamic_int8_conv2d, ours.int8_conv2d):
            return int(result.numel() * prod(args[2][1:]))
        if operation in (aten.mv, aten.dot, aten.vdot):  # torch has no formula for these
            return int(args[0].numel())
        if operation is aten.addmv:
            return int(args[1].numel())
        if operation is getattr(aten, "_grouped_mm", None) and args[1].dim() == 3:
            return int(result.numel() * args[0].shape[-1])
        formula = self._formulas.get(operation)
        return 0 if formula is None else int(formula(*args, **kwargs, out_val=result)) // 2

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._running.append(module)
        self.called.add(module)
        inputs = tensors_in((args, kwargs))
        for tensor in inputs[:1]:
            self.input_types.setdefault(module, tensor.dtype)
        if isinstance(module, self._watched):
            shift = getattr(module, "input_shift", None)  # a binary or packed layer takes signs after it
            if not of_one_sign(inputs if shift is None else [shift.forward(tensor) for tensor in inputs[:1]]):
                self.of_two_signs.add(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()
        for tensor in tensors_in(output)[:1]:
            self.output_shapes.setdefault(module, tuple(tensor.shape))


def count(model: nn.Module, example: Any, watched: tuple[type[nn.Module], ...] = ()) -> Calls:
    """Run `model` once on `example`, in `eval()` and without gradients, and count multiply-adds for each module.

    `example` is a tensor, a tuple of positional arguments or a mapping of keyword arguments. Matrix and vector products
    and convolutions count, also in attention; elementwise products do not. A product counts for the innermost module
    whose forward computes it, but never for a `ScriptModule`. Input signs are noted only for modules of the types
    `watched`. The model stays as it was.
    """
    calls = Calls(watched)
    with ExitStack() as stack:
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks: its products count as its parent's
                stack.callback(module.register_forward_pre_hook(calls._enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(calls._leave).remove)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # fused kernels of CPUs have no formula
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):  # nor do those of oneDNN
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="TF32 acceleration")  # torch sets all flags, known to it or not
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(calls)
        run(model, example)
    return calls
