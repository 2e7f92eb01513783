"""Binary inputs of one sign, as a ReLU leaves them: their signs are the same for every example, so they say nothing.

The first training passes of each layer are looked at. A pre-hook on all optimizers warns of those that stay constant.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from proxconnect._support.text import some

ADVICE = (
    "Put batch norm, PReLU or Hardtanh before such an input, in place of a ReLU, learn thresholds above 0 with "
    "add_thresholds(model, start=0.5), or leave the input float with a mapping of `activations`"
)

STEPS, ENTRIES = 5, 256
"""The training steps and the entries of an input that must have one sign before a warning: a small batch may have."""

_MOST_PASSES = 200
"""Passes that are looked at if none varies or no optimizer steps; each waits for the device."""

_POSITIVE = {
    "Relu": "ReLU", "Threshold": "ReLU", "Hardtanh": "a clamp", "Clamp": "a clamp", "Sigmoid": "a sigmoid",
    "Hardsigmoid": "a sigmoid", "Softmax": "a softmax", "Softplus": "a softplus", "Abs": "abs", "Exp": "exp",
}  # fmt: skip
_KEEPS_SIGNS = (
    "MaxPool", "AvgPool", "Adaptive", "Mkldnn", "View", "Reshape", "Unsafe", "Transpose", "Permute", "TBackward",
    "Slice", "Select", "Mul", "NativeDropout", "Squeeze", "Unsqueeze", "Mean", "Clone", "ToCopy", "Expand", "Cat",
)  # fmt: skip


class FirstInputs:
    """A record of the signs of a layer's binary inputs at its first training steps, shared by replicas of the layer."""

    def __init__(self) -> None:
        self.is_settled = False
        """True if there is nothing more to find: an input varied in sign, or a warning was given."""
        self.layer = self.source = ""
        self.steps = 0
        self._entries = self._passes = 0
        self._is_positive: bool | None = None
        self._is_new = False

    @property
    def has_one_sign(self) -> bool:
        """True if `ENTRIES` entries or more were noted, all of one sign, and `is_settled` is False."""
        return not self.is_settled and self._entries >= ENTRIES

    def note(self, input: Tensor) -> None:
        """Record the signs of an input. A constant adds no entries; a tensor without readable values has no effect."""
        if not _has_values(input):
            return
        values = input.detach()
        low, high = torch.stack([values.amin(), values.amax()]).tolist()
        is_positive = low >= 0
        mixed = not is_positive and not high < 0  # also NaN
        if mixed or self._is_positive not in (None, is_positive):
            self.is_settled = True
        elif low != high:
            self._entries += input.numel()
            self._is_positive, self._is_new = is_positive, True

    def see(self, layer: str, input: Tensor) -> None:
        """Record the signs of an input, before it is binarized, at a training pass of the layer named `layer`.

        `source` becomes the function that leaves no negative values there, such as "ReLU", or "" if none is known.
        After a change of sign or many passes, `is_settled` becomes True; until then, optimizer steps may warn.
        """
        self.note(input)
        self._passes += 1
        if self._passes >= _MOST_PASSES:
            self.is_settled = True
        if self.is_settled:
            _unsettled.discard(self)
            return
        if not _hooks:
            _hooks.append(register_optimizer_step_pre_hook(_warn))
        self.layer, self.source = layer, self.source or _source_of(input)
        _unsettled.add(self)

    def count_step(self) -> None:
        """Count an optimizer step if `note` added entries since the last one."""
        self.steps += self._is_new
        self._is_new = False


@contextmanager
def noted_inputs(quantizers: Mapping[str, nn.Module]) -> Iterator[dict[str, FirstInputs]]:
    """In this context, note the inputs of the quantizers; yield a `FirstInputs` for each by its key."""
    noted = {name: FirstInputs() for name in quantizers}
    with ExitStack() as stack:
        for name, quantizer in quantizers.items():
            stack.enter_context(quantizer.register_forward_pre_hook(partial(_note, noted[name])))
        yield noted


def _note(inputs: FirstInputs, quantizer: nn.Module, args: tuple[Any, ...]) -> None:
    inputs.note(args[0])


_unsettled: WeakSet[FirstInputs] = WeakSet()
_hooks: list[Any] = []


def _warn(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Warn once of each layer whose input had one sign in all of the first training steps: a pre-hook of steps."""
    if torch.compiler.is_compiling() or not _unsettled:
        return
    found = []
    for inputs in list(_unsettled):
        inputs.count_step()
        if inputs.steps >= STEPS and inputs.has_one_sign:
            found.append(f"{inputs.layer} (after {inputs.source})" if inputs.source else inputs.layer)
            inputs.is_settled = True
            _unsettled.discard(inputs)
    if found:
        warnings.warn(
            f"in the first {STEPS} training steps the binary input of {some(sorted(found))} had one sign only. Its "
            f"signs are the same for every example, so the layer learns nothing from it. {ADVICE}",
            stacklevel=3,
        )


def _has_values(tensor: Tensor) -> bool:
    """Return True if the entries of `tensor` can be read now: not traced, transformed, sharded, captured or on meta."""
    return (
        type(tensor) is Tensor
        and tensor.is_floating_point()
        and tensor.numel() > 0
        and not tensor.is_meta
        and not torch._C._are_functorch_transforms_active()
        and not is_in_torch_dispatch_mode()
        and torch._C._get_tracing_state() is None
        and not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def _source_of(input: Tensor) -> str:
    """Return the function without negative values that `input` comes from, by autograd's graph; empty if unknown."""
    node = input.grad_fn
    while node is not None:
        name = node.name()
        for start, function in _POSITIVE.items():
            if name.startswith(start):
                return function
        if not name.startswith(_KEEPS_SIGNS) or not node.next_functions:
            return ""
        node = node.next_functions[0][0]
    return ""
