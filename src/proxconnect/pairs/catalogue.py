"""The catalogue of forward-backward pairs, by name."""

from dataclasses import replace
from difflib import get_close_matches

from proxconnect.pairs import squashing
from proxconnect.pairs.expression import is_expression, parse
from proxconnect.pairs.pair import AnyPair, Heuristic, Pair
from proxconnect.pairs.prox import binaryrelax, outward, parq, proxconnect, sign, tanh
from proxconnect.pairs.transform import Transform, error_decay, hardtanh, polynomial, sign_swish


def surrogate(name: str, transform: Transform, doc: str, fixed: float | None = None) -> Heuristic:
    """Make the heuristic F = sign, B = T' of a transform T, with the range of μ of T and the fixed μ `fixed`.

    `Pair(name, transform=T)` corrects it, and has no fixed μ, because its F must become sharp.
    """
    sharpness = None if transform.sharpness is None else replace(transform.sharpness, fixed=fixed)
    return Heuristic(name, forward=sign, backward=transform.derivative, sharpness=sharpness, doc=doc)


_CATALOGUE: tuple[AnyPair, ...] = (
    Pair(
        "fp",
        doc="Full precision: F(x) = x, B(x) = 1.\n\n"
        "The prox problem is argmin_z ½(z - x)², so r = 0. It stays float in `eval()`; under `hard` it is "
        "post-training quantisation.",
    ),
    Pair(
        "bc",
        prox=sign,
        doc="BinaryConnect: F(x) = P(x) = sign(x), B(x) = 1.\n\n"
        "The prox problem is argmin_{z ∈ {-1, +1}} ½(z - x)². Courbariaux 2015 (arXiv 1511.00363).",
    ),
    Pair(
        "pc",
        prox=proxconnect,
        doc="ProxConnect: F(x) = P_μ(x) = sign(x)·min(1, 1 - 1/μ + |x|), B(x) = 1, μ ≥ 1.\n\n"
        "The prox problem is argmin_{|z| ≤ 1} ½(z - x)² + (1-1/μ)·dist(z, ±1). Dockhorn 2021 (arXiv 2110.13220).",
    ),
    Pair(
        "parq",
        prox=parq,
        doc="PARQ: F(x) = P_μ(x) = clip(μx, -1, 1), B(x) = 1, μ ≥ 1.\n\n"
        "The prox problem is argmin_{|z| ≤ 1} ½(z - x)² - ½(1-1/μ)z². Jin 2025 (arXiv 2503.15748).",
    ),
    Pair(
        "binaryrelax",
        prox=binaryrelax,
        doc="BinaryRelax: F(x) = P_μ(x) = (x + (μ-1)·sign x)/μ, B(x) = 1, μ ≥ 1.\n\n"
        "The prox problem is argmin_z ½(z - x)² + ½(μ-1)·dist²(z, ±1). Yin 2018 (arXiv 1801.06313).",
    ),
    Pair(
        "md",
        prox=tanh,
        doc="Mirror descent: F(x) = P_μ(x) = tanh(μx), B(x) = 1, μ > 0.\n\n"
        "The prox problem is argmin_z ½(z - x)² + H(z)/μ - ½z² with H(z) = ½[(1+z)ln(1+z) + (1-z)ln(1-z)]. Ajanthan "
        "2021 (arXiv 1910.08237).",
    ),
    Pair(
        "bnn",
        prox=outward,
        transform=hardtanh,
        doc="BNN: F(x) = sign(x), B(x) = 1[|x| ≤ 1].\n\n"
        "T = clip(·, -1, 1), and the prox problem is argmin_{|z| ≥ 1} ½(z - x)². Courbariaux 2016 (arXiv 1602.02830).",
    ),
    Pair(
        "bnn++",
        transform=sign_swish,
        doc="BNN++, BNN+ corrected: F(x) = SS_μ(x), B(x) = SS'_μ(x), μ > 0.\n\n"
        "SS_μ(x) = 2σ(μx)(1 + μx(1 - σ(μx))) - 1. T = SS_μ and P is the identity, argmin_z ½(z - x)². SS overshoots "
        "±1 by 20 % and SS' is negative beyond |μx| ≈ 2.4; T need not be monotone. Lu 2023 (arXiv 2402.17710).",
    ),
    Pair(
        "poly+",
        transform=polynomial,
        doc="The polynomial of Bi-Real Net, corrected: F(x) = A(μx), B(x) = μ(2 - 2|μx|)₊, μ > 0.\n\n"
        "A(v) = 2v - v|v| on [-1, 1] and sign(v) outside. T = A(μ·) and P is the identity, argmin_z ½(z - x)². Liu "
        "2018 (arXiv 1808.00278), corrected by arXiv 2402.17710.",
    ),
    Pair(
        "ede+",
        transform=error_decay,
        doc="The error decay estimator of IR-Net, corrected: F(x) = k·tanh(tx), B = F', t = μ > 0, k = max(1/t, 1).\n\n"
        "T = F and P is the identity, argmin_z ½(z - x)². Qin 2020 (arXiv 1909.10788), corrected by arXiv 2402.17710.",
    ),
    Pair(
        "clip+",
        transform=squashing.clip,
        doc="BNN's B at any width, corrected: F(x) = clip(μx, -1, 1), B(x) = μ·1[|μx| ≤ 1], μ > 0.\n\n"
        "T = clip(μ·, -1, 1) and P is the identity, argmin_z ½(z - x)². BNN itself is legitimate too, with another P. "
        "Wu 2018 (arXiv 1706.02609), corrected as in arXiv 2402.17710.",
    ),
    Pair(
        "erf+",
        transform=squashing.gaussian_error,
        doc="The Gaussian surrogate, corrected: F(x) = erf(μx), B(x) = (2μ/√π)·e^{-μ²x²}, μ > 0.\n\n"
        "T = erf(μ·) and P is the identity, argmin_z ½(z - x)². Wu 2018 (arXiv 1706.02609), corrected as in "
        "arXiv 2402.17710.",
    ),
    surrogate(
        "bnn+",
        sign_swish,
        "BNN+: F(x) = sign(x), B(x) = SS'_μ(x), μ > 0.\n\n"
        "SS'_μ(x) = μ(2 - μx·tanh(μx/2))/(1 + cosh μx). It solves no prox problem: F and so P are flat, but B = T'(P) "
        "varies. μ is fixed, as published: it stays at 1 unless you name a start or an end for `Sharpening`. Larq and "
        "bitorch fix it at 5, for latents that no scale divides. Darabi 2018 (arXiv 1812.11800).",
        fixed=1.0,
    ),
    surrogate(
        "poly",
        polynomial.at(1.0),
        "Bi-Real Net's polynomial: F(x) = sign(x), B(x) = (2 - 2|x|)₊.\n\n"
        "It solves no prox problem: F and so P are flat, but B = T'(P) varies. Liu 2018 (arXiv 1808.00278).",
    ),
    surrogate(
        "ede",
        error_decay,
        "IR-Net's error decay estimator: F(x) = sign(x), B(x) = k·t·(1 - tanh²(tx)), t = μ > 0, k = max(1/t, 1).\n\n"
        "It solves no prox problem: F and so P are flat, but B = T'(P) varies. As published, t moves: `Sharpening` "
        "takes it from 0.1 to 10. Qin 2020 (arXiv 1909.10788).",
    ),
    surrogate(
        "erf",
        squashing.gaussian_error,
        "The Gaussian surrogate: F(x) = sign(x), B(x) = (2μ/√π)·e^{-μ²x²}, of variance 1/(2μ²), μ > 0.\n\n"
        "It solves no prox problem: F and so P are flat, but B = T'(P) varies. μ is fixed, as published: it stays at 1 "
        "unless you name a start or an end for `Sharpening`. Wu 2018 (arXiv 1706.02609).",
        fixed=1.0,
    ),
)

PAIRS: dict[str, AnyPair] = {pair.name: pair for pair in _CATALOGUE}
"""All pairs by name. To add yours, add it to `_CATALOGUE`; the conformance tests then check it."""


_SURROGATES: dict[str, tuple[Transform, str]] = {
    "arctan": (squashing.arctan, "μ/(1 + (πμx/2)²), μ > 0. Fang 2021 (arXiv 2007.05785)."),
    "superspike": (squashing.fast_sigmoid, "μ/(1 + μ|x|)², μ > 0. Zenke 2018 (arXiv 1705.11146)."),
    "slayer": (squashing.exponential, "μe^{-μ|x|}, μ > 0. Shrestha 2018 (arXiv 1810.08646)."),
    "logistic": (squashing.logistic, "2μσ(μx)σ(-μx), μ > 0. Wu 2018 (arXiv 1706.02609)."),
    "rectangle": (
        squashing.clip,
        "μ·1[|μx| ≤ 1], μ > 0. Wu 2018 (arXiv 1706.02609).\n\n"
        "It is BNN at another width, legitimate at each μ: T = clip(μ·, -1, 1), P(x) = sign(x)·max(1/μ, |x|).",
    ),
    "lsnn": (squashing.damped_triangle, "0.3μ(2 - 2|μx|)₊, μ > 0. Bellec 2018 (arXiv 1803.09574)."),
    "fda": (
        squashing.fourier,
        "(0.4μ/π)·Σ cos(0.1kμx)·1[|μx| ≤ 1] over k = 1, 3, ..., 19, μ > 0. Xu 2021 (arXiv 2103.00841).",
    ),
    "rbnn": (squashing.training_aware, "k(√2·t - t²|x|)₊, t = μ > 0, k = max(1/t, 1). Lin 2020 (arXiv 2009.13055)."),
    "dsq": (squashing.soft_quantization, "μ(1 - tanh²(μx))/tanh(μ)·1[|x| ≤ 1], μ > 0. Gong 2019 (arXiv 1908.05033)."),
    "reste": (
        squashing.power,
        "|x|^{1/o-1}/o·1[|x| ≤ 1.5], but 0.1^{1/o-1} for |x| < 0.1, o = μ ≥ 1.\n\n"
        "At o = 1 it is BNN at another width, and legitimate. Wu 2023 (arXiv 2308.06689).",
    ),
}
"""T and, as a formula with its source, B = T' of each surrogate."""

_MOVING = {"rbnn", "dsq", "reste"}
"""Surrogates whose authors move or learn μ. The others have a fixed width."""

SURROGATES: dict[str, Heuristic] = {
    name: surrogate(name, transform, f"F(x) = sign(x), B(x) = {doc}", fixed=None if name in _MOVING else 1.0)
    for name, (transform, doc) in _SURROGATES.items()
}
"""Further surrogates of the literature, by name; use them like the pairs of `PAIRS`.

μ stays at 1 unless you name a start or an end for `Sharpening`. In rbnn, dsq and reste it moves, as in their papers.
"""


def resolve(pair: str | AnyPair) -> AnyPair:
    """Return the pair that `pair` names in `PAIRS` or describes as "T of P", or `pair` itself if it is a pair already.

    In words, T is a transform and P a prox map of `proxconnect.pairs`, as in "clip of gap(1, 1)" or "sign_swish of
    linear(0.2, 0.1)"; see `proxconnect.pairs.expression`.

    Raises:
        ValueError: the name is unknown, and the message lists close matches; or "T of P" has a part that is none.
        TypeError: `pair` is neither a name nor a pair.
    """
    if isinstance(pair, Pair | Heuristic):
        return pair
    if not isinstance(pair, str):
        raise TypeError(f"a pair is a name of PAIRS, a Pair or a Heuristic; got {type(pair).__name__}")
    if is_expression(pair):
        return parse(pair)
    if pair not in PAIRS:
        near = get_close_matches(pair.lower(), PAIRS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"unknown pair {pair!r}: {hint}known are {', '.join(PAIRS)}")
    return PAIRS[pair]
