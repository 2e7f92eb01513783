"""Forward and backward maps that somebody else wrote, tried on a few numbers before anything rests on them."""

from collections.abc import Callable
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from proxconnect.pairs.catalogue import PAIRS, SURROGATES
from proxconnect.pairs.pair import AnyPair

_INPUTS = ((-4.0, -1.0, -0.3, 0.0), (0.1, 0.7, 1.0, 3.0))

_VALUES = {"one": {1.0}, "indicator": {0.0, 1.0}}
"""The values that B may take, by the slope of a pair."""

_FOR_TENSORS = (
    ". It takes one number at a time, and must take whole tensors: use torch.where(condition, a, b) instead of `if`, "
    "and the functions of torch instead of those of math"
)

_sound: "WeakValueDictionary[int, AnyPair]" = WeakValueDictionary()
"""The pairs that were tried, by their ids; pairs need not be hashable."""


class ProbeError(ValueError):
    """The error for a callable that is no sound elementwise function with finite values; the message says why."""


def require_sound(pair: AnyPair) -> None:
    """Raise ProbeError, which names `pair`, unless F and B are finite and elementwise and leave their input alone.

    They are tried once, on a few numbers in float32 on the CPU, at the usual start and end of μ and at its fixed value;
    the pairs of the catalogue are not. The values of B must fit the `slope` of the pair. F and B may be random, but
    must not depend on tensors that require gradients, which would get none.
    """
    if PAIRS.get(pair.name) is pair or SURROGATES.get(pair.name) is pair or id(pair) in _sound:
        return
    if is_in_torch_dispatch_mode():  # tensors may have no values there
        return
    usual = pair.sharpness
    mus = {1.0} if usual is None else {usual.start, usual.end, usual.unmoved}
    with torch.device("cpu"), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        for mu in sorted(mus):
            _try("F", pair, pair.forward, mu)
            slopes = _try("B", pair, pair.backward, mu)
            allowed = _VALUES.get(pair.slope)
            if allowed is not None and not set(slopes.flatten().tolist()) <= allowed:
                raise ProbeError(f"B of pair {pair.name!r} is not what the slope {pair.slope!r} of its transform says: "
                                 "leave the slope at 'any'")  # fmt: skip
    _sound[id(pair)] = pair


def answer(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return function(x); ProbeError unless it is a tensor of x's shape, dtype and device, and `x` stays as it is.

    Messages call the function `name`.
    """
    given = x.clone()
    try:
        values = function(given)
    except Exception as error:
        raise ProbeError(
            f"{name} raised {type(error).__name__} for a {str(x.dtype).removeprefix('torch.')} tensor of shape "
            f"{tuple(x.shape)}: {error}{_advice(function, x, error)}"
        ) from error
    if not isinstance(values, Tensor):
        raise ProbeError(f"{name} must return a tensor; got {type(values).__name__}")
    if values.shape != x.shape:
        raise ProbeError(f"{name} must keep the shape of its input: got {tuple(values.shape)} for {tuple(x.shape)}")
    if values.dtype != x.dtype:
        raise ProbeError(f"{name} must keep the dtype of its input: got {values.dtype} for {x.dtype}; "
                         "return .to(x.dtype)")  # fmt: skip
    if values.device != x.device:
        raise ProbeError(f"{name} must stay on the device of its input: got {values.device} for {x.device}")
    if not torch.equal(given, x):
        raise ProbeError(f"{name} changes the tensor that it is given: let it work on a copy")
    return values


def _advice(function: Callable[[Tensor], Tensor], x: Tensor, error: Exception) -> str:
    """Return what to do about the error of a function at `x`, to append to it; empty if nothing is known."""
    if isinstance(error, TypeError) and "missing 1 required positional argument" in str(error):
        return ". A callable gets x alone; of F(x, μ) and B(x, μ) make pairs.Heuristic(NAME, forward=F, backward=B)"
    return _FOR_TENSORS if _takes_numbers(function, x) else ""


def _takes_numbers(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Return True if the function takes the first entry of `x` alone."""
    try:
        function(x.reshape(-1)[0].clone())
    except Exception:
        return False
    return True


def _try(part: str, pair: AnyPair, function: Callable[[Tensor, Tensor], Tensor], mu: float) -> Tensor:
    """Return F or B of a pair, called `part`, at a few numbers; ProbeError if it is no sound map there."""
    name = f"{part}(x, mu) of pair {pair.name!r}"
    x, sharpness = torch.tensor(_INPUTS, dtype=torch.float32), torch.tensor(mu)
    before = torch.get_rng_state()
    once, again, apart = (answer(name, lambda x: function(x, sharpness), y) for y in (x, x, _apart(x)))
    is_random = not torch.equal(torch.get_rng_state(), before) or not torch.equal(once, again)
    if once.requires_grad:
        raise ProbeError(f"{name} depends on tensors that require gradients, which would get none: detach them")
    if not bool(once.isfinite().all()):
        at = float(x[~once.isfinite()][0])
        raise ProbeError(f"{name} is not finite at x = {at:g}, mu = {mu:g}: write it in a form that does not overflow")
    if not is_random and not torch.allclose(apart, _apart(once), rtol=1e-3, atol=1e-6):
        raise ProbeError(
            f"{name} mixes entries: it gives an entry another value among other entries. It must act on each entry by "
            "itself; a mean over the tensor belongs into the scale"
        )
    return once


def _apart(x: Tensor) -> Tensor:
    """Return some of the entries, in another order and shape."""
    return x[:, 1:].flip(0, 1)
