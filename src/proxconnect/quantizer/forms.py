"""Which pairs the kernels know, and as which curves.

Tables map the types of a pair's parts to the curves that the kernels of all devices know. Pairs with other parts use
torch.
"""

from typing import NamedTuple

from proxconnect.pairs import AnyPair, Heuristic, squashing
from proxconnect.pairs import prox as proxes
from proxconnect.pairs import transform as transforms
from proxconnect.pairs.pair import FixedMap, MethodMap
from proxconnect.pairs.transform import Slope

SHARPNESSES = (1e-6, 1e9)
"""The range of μ for kernels: in it float32 holds μ/ᾱ, as two factors, for every ᾱ."""


class Curve(NamedTuple):
    """A function that the kernels know, by its number in `csrc/proxconnect.h`, and its fixed μ (None: μ is free)."""

    number: int
    fixed: float | None = None

    def at(self, mu: float) -> float:
        """Return the μ at which kernels compute this curve: the fixed μ, or `mu` if none is fixed."""
        return mu if self.fixed is None else self.fixed


class Form(NamedTuple):
    """A pair as the kernels compute it: F is the curve `value`, and B the derivative of the curve `derivative`."""

    pair: AnyPair
    value: Curve
    derivative: Curve
    slope: Slope
    """The values that B takes: 1 ("one"), 0 and 1 ("indicator"), or "any"."""

    def keeps_gradients(self, is_scaled: bool, is_unit: bool) -> bool:
        """Return True if (α/ᾱ)·B is 1: signs have α = ᾱ, and rows without a scale have neither; see `quantise`."""
        return self.slope == "one" and not is_unit and (not is_scaled or self.value.number == SIGN.number)


SIGN, _CLIP, _POLYNOMIAL, _TANH, _ERROR_DECAY, _SIGN_SWISH, _PROXCONNECT, _BINARYRELAX = map(Curve, range(8))
"""In the order of `csrc/proxconnect.h`."""

_PROXES: dict[type, Curve] = {
    proxes.PARQ: _CLIP,
    proxes.Tanh: _TANH,
    proxes.ProxConnect: _PROXCONNECT,
    proxes.BinaryRelax: _BINARYRELAX,
}
_TRANSFORMS: dict[type, Curve] = {
    squashing.Clip: _CLIP,
    transforms.Polynomial: _POLYNOMIAL,
    transforms.ErrorDecay: _ERROR_DECAY,
    transforms.SignSwish: _SIGN_SWISH,
}


def form_of(pair: AnyPair) -> Form | None:
    """Return a pair as the kernels compute it; None if they do not know F or B of this pair."""
    value: Curve | None = SIGN
    derivative: Curve | None = SIGN
    if isinstance(pair, Heuristic):
        mu, backward = None, pair.backward_map
        if isinstance(backward, FixedMap):
            mu, backward = backward.mu, backward.map
        if not pair.is_sign or not isinstance(backward, MethodMap) or backward.method != "derivative":
            return None
        derivative = _curve_of(backward.owner, _TRANSFORMS, mu)
    elif pair.prox == proxes.identity:
        value = derivative = _curve_of(pair.transform, _TRANSFORMS)
    elif not pair.is_sign:
        value = _curve_of(pair.prox, _PROXES) if pair.transform == transforms.identity else None
    return None if value is None or derivative is None else Form(pair, value, derivative, pair.slope)


def _curve_of(part: object, curves: dict[type, Curve], mu: float | None = None) -> Curve | None:
    """Look up the curve of a part, fixed at the μ of the part or else at `mu`."""
    if isinstance(part, proxes.FixedProx):
        mu, part = part.mu, part.prox
    elif isinstance(part, transforms.FixedTransform):
        mu, part = part.mu, part.transform
    curve = curves.get(type(part))
    return None if curve is None else Curve(curve.number, mu)
