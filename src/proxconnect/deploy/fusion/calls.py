"""Sort the calls of a forward by the arguments that they give, because each kind of call has a graph of its own."""

from collections.abc import Callable
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple

from torch import Tensor

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
