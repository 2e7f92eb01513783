"""Pairs that nobody wrote down: made by the recipe and by the laws of composition, to go through the conformance table.

Callables are functions of this module, as pickling asks for.
"""

import torch
from torch import Tensor

from proxconnect.pairs import PAIRS, SURROGATES, Pair, prox, transform
from proxconnect.pairs.expression import parse
from proxconnect.theory import average, compose, correct, rescale, synthesize


def sech(x: Tensor) -> Tensor:
    """The derivative of the Gudermannian (2/π)·arctan(sinh(πx/2)), which tends to ±1."""
    return 1 / torch.cosh((torch.pi / 2 * x).abs().clamp(max=85.0))


def triangle(x: Tensor) -> Tensor:
    """Of area 2, with kinks at 0 and ±0.7."""
    return 2 * (1 - x.abs() / 0.7).clamp(min=0) / 0.7


def gapped(x: Tensor) -> Tensor:
    """0 on a stretch where F rests at ±1/2, and jumps around it."""
    size = x.abs()
    return (size <= 0.317).to(x.dtype) / 0.634 + ((size - 0.611).abs() <= 0.1).to(x.dtype) / 0.4


def shrunk(x: Tensor) -> Tensor:
    """A prox that pulls everything towards ±1 by a third."""
    return (2 * x + torch.copysign(torch.ones_like(x), x + 0.0)) / 3


def flat_at_ends(p: Tensor) -> Tensor:
    """3p/2 - p³/2 on [-1, 1], which arrives at ±1 with slope 0."""
    v = p.clamp(-1.0, 1.0)
    return v * (3 - v * v) / 2


def _pair(name: str) -> Pair:
    pair = PAIRS[name]
    assert isinstance(pair, Pair)
    return pair


_MADE = (
    correct(PAIRS["ede"], "ede, mended"),
    correct(SURROGATES["lsnn"], "lsnn, mended", normalise=True),
    correct(sech, "sech, mended"),
    correct(triangle, "triangle, mended"),
    correct(gapped, "gapped, mended"),
    synthesize(transform.hardtanh, prox.outward, "bnn, synthesised"),
    synthesize(flat_at_ends, prox.tanh, "flat∘tanh"),
    synthesize(transform.sign_swish, prox.identity, "swish, synthesised"),
    compose(transform.hardtanh, _pair("bnn++")),
    compose(transform.identity, _pair("bc")),
    Pair("md and parq", prox=average([prox.proxconnect, prox.parq]), doc="F(x) = argmin, B = 1: a proximal average."),
    rescale(_pair("bnn"), inner=2.0, name="narrow bnn"),
    rescale(_pair("erf+"), inner=0.5, name="wide erf"),
    parse("clip of gap(1, 1)"),
    parse("swish(0.5) of gap(0.3, 0.5)"),
    parse("spline(3, -1, 2) of gap(0.2)"),
)

MADE: dict[str, Pair] = {pair.name: pair for pair in _MADE}
"""By name."""
