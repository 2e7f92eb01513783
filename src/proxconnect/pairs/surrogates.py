"""Surrogates of the literature: F = sign and a backward factor B from a paper, each with T = ∫B, which corrects it.

B is T' of a transform T, so `Pair(name, transform=T)` keeps B and mends F: its P is the identity.
"""

from proxconnect.pairs import squashing
from proxconnect.pairs.pair import Heuristic
from proxconnect.pairs.prox import sign
from proxconnect.pairs.transform import Transform


def _surrogate(name: str, transform: Transform, doc: str) -> Heuristic:
    """F = sign, B = T'."""
    return Heuristic(name, forward=sign, backward=transform.derivative, sharpness=transform.sharpness, doc=doc)


_SURROGATES = (
    _surrogate(
        "arctan", squashing.arctan, "F(x) = sign(x), B(x) = μ/(1 + (πμx/2)²), μ > 0. Fang 2021 (arXiv 2007.05785)."
    ),
    _surrogate(
        "superspike",
        squashing.fast_sigmoid,
        "F(x) = sign(x), B(x) = μ/(1 + μ|x|)², μ > 0. Zenke 2018 (arXiv 1705.11146).",
    ),
    _surrogate(
        "slayer", squashing.exponential, "F(x) = sign(x), B(x) = μe^{-μ|x|}, μ > 0. Shrestha 2018 (arXiv 1810.08646)."
    ),
    _surrogate(
        "logistic", squashing.logistic, "F(x) = sign(x), B(x) = 2μσ(μx)σ(-μx), μ > 0. Wu 2018 (arXiv 1706.02609)."
    ),
    _surrogate(
        "rectangle",
        squashing.clip,
        """F(x) = sign(x), B(x) = μ·1[|μx| ≤ 1], μ > 0. Wu 2018 (arXiv 1706.02609).

    BNN at another width, and as legitimate at each μ: T = clip(μ·, -1, 1), P(x) = sign(x)·max(1/μ, |x|).
    """,
    ),
    _surrogate(
        "lsnn",
        squashing.damped_triangle,
        "F(x) = sign(x), B(x) = 0.3μ(2 - 2|μx|)₊, μ > 0. Bellec 2018 (arXiv 1803.09574).",
    ),
    _surrogate(
        "fda",
        squashing.fourier,
        """F(x) = sign(x), B(x) = (0.4μ/π)·Σ cos(0.1kμx)·1[|μx| ≤ 1] over k = 1, 3, ..., 19, μ > 0.

    Xu 2021 (arXiv 2103.00841).
    """,
    ),
    _surrogate(
        "rbnn",
        squashing.training_aware,
        "F(x) = sign(x), B(x) = k(√2·t - t²|x|)₊, t = μ > 0, k = max(1/t, 1). Lin 2020 (arXiv 2009.13055).",
    ),
    _surrogate(
        "dsq",
        squashing.soft_quantization,
        "F(x) = sign(x), B(x) = μ(1 - tanh²(μx))/tanh(μ)·1[|x| ≤ 1], μ > 0. Gong 2019 (arXiv 1908.05033).",
    ),
    _surrogate(
        "reste",
        squashing.power,
        """F(x) = sign(x), B(x) = |x|^{1/o-1}/o·1[|x| ≤ 1.5], but 0.1^{1/o-1} for |x| < 0.1, o = μ ≥ 1.

    At o = 1 it is BNN at another width, and as legitimate. Wu 2023 (arXiv 2308.06689).
    """,
    ),
)

SURROGATES: dict[str, Heuristic] = {surrogate.name: surrogate for surrogate in _SURROGATES}
"""Surrogates of the literature beyond those of `PAIRS`, by name; each is a pair like any other."""
