"""Sort the calls of a forward by the arguments that they give, because each kind of call has a graph of its own."""

from collections.abc import Callable
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

_CONSTANTS = (type(None), bool, int, float, str)


class Kind(NamedTuple):
    """The names of the arguments that are inputs of a graph, and names, types and values of those that are constants.

    Inputs are tensors, and arguments of parameters without defaults. Constants are other arguments that differ
    from the defaults.
    """

    inputs: tuple[str, ...]
    constants: tuple[tuple[str, type, Any], ...]

    def of(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return `forward` as a function of the module and of the inputs alone."""
        constants = {name: value for name, _, value in self.constants}

        @wraps(forward)
        def of_inputs(module: Any, *inputs: Any) -> Any:
            return forward(module, **dict(zip(self.inputs, inputs, strict=True)), **constants)

        names = ("self", *self.inputs)
        of_inputs.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in names])  # type: ignore[attr-defined]  # inspect reads it
        return of_inputs


def sort(
    forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Kind, tuple[Any, ...]] | None:
    """Return the kind of a call and its inputs; None without inputs, and with objects that are neither of the two."""
    defaults = _defaults(forward)
    given = dict(zip(defaults, args, strict=False)) | kwargs
    inputs = {n: v for n, v in given.items() if isinstance(v, Tensor) or defaults.get(n) is Parameter.empty}
    rest = {n: v for n, v in given.items() if n not in inputs and (n not in defaults or v is not defaults[n])}
    is_whole = len(given) == len(args) + len(kwargs) and all(type(value) in _CONSTANTS for value in rest.values())
    if not inputs or not is_whole:
        return None
    constants = tuple((name, type(rest[name]), rest[name]) for name in sorted(rest))
    names = tuple(sorted(inputs))
    return Kind(names, constants), tuple(inputs[name] for name in names)


@cache
def _defaults(forward: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of the parameters that positional arguments can name, except `self`, in order."""
    _, *parameters = signature(forward).parameters.values()
    return {p.name: p.default for p in parameters if p.kind <= Parameter.POSITIONAL_OR_KEYWORD}


def ordered(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the arguments in the order of these names if exactly these are given, else None."""
    if len(args) + len(kwargs) != len(names):
        return None
    rest = names[len(args) :]
    return (*args, *(kwargs[name] for name in rest)) if all(name in kwargs for name in rest) else None


def are_plain(inputs: tuple[Any, ...]) -> bool:
    """Return True if a graph may run on these inputs: numbers, None and plain CPU tensors that record no gradient.

    A tensor that requires one is plain while gradients are off. False under CPU autocast, forward-mode differentiation,
    a torch function or dispatch mode, a transform or tracing, and while a global forward hook is registered.
    """
    has_gradients = torch.is_grad_enabled()
    for value in inputs:
        if type(value) is Tensor:
            if not value.is_cpu or value.layout is not torch.strided or (has_gradients and value.requires_grad):
                return False
            if value.is_neg():  # entries in memory have the other sign
                return False
        elif not (value is None or isinstance(value, int | float)):
            return False
    return not (
        torch.is_autocast_enabled("cpu")
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or is_in_torch_dispatch_mode()
        or torch._C._is_torch_function_mode_enabled()
        or torch._C._get_tracing_state() is not None
        or _global_forward_hooks
        or _global_forward_pre_hooks
    )
