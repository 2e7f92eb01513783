"""Surrogates of the literature: F = sign, and a backward factor B = T' of a transform T."""

from proxconnect.pairs import squashing
from proxconnect.pairs.catalogue import surrogate
from proxconnect.pairs.pair import Heuristic

_SURROGATES = (
    surrogate(
        "arctan", squashing.arctan, "F(x) = sign(x), B(x) = μ/(1 + (πμx/2)²), μ > 0. Fang 2021 (arXiv 2007.05785)."
    ),
    surrogate(
        "superspike",
        squashing.fast_sigmoid,
        "F(x) = sign(x), B(x) = μ/(1 + μ|x|)², μ > 0. Zenke 2018 (arXiv 1705.11146).",
    ),
    surrogate(
        "slayer", squashing.exponential, "F(x) = sign(x), B(x) = μe^{-μ|x|}, μ > 0. Shrestha 2018 (arXiv 1810.08646)."
    ),
    surrogate(
        "logistic", squashing.logistic, "F(x) = sign(x), B(x) = 2μσ(μx)σ(-μx), μ > 0. Wu 2018 (arXiv 1706.02609)."
    ),
    surrogate(
        "rectangle",
        squashing.clip,
        """F(x) = sign(x), B(x) = μ·1[|μx| ≤ 1], μ > 0. Wu 2018 (arXiv 1706.02609).

    It is BNN at another width, legitimate at each μ: T = clip(μ·, -1, 1), P(x) = sign(x)·max(1/μ, |x|).
    """,
    ),
    surrogate(
        "lsnn",
        squashing.damped_triangle,
        "F(x) = sign(x), B(x) = 0.3μ(2 - 2|μx|)₊, μ > 0. Bellec 2018 (arXiv 1803.09574).",
    ),
    surrogate(
        "fda",
        squashing.fourier,
        """F(x) = sign(x), B(x) = (0.4μ/π)·Σ cos(0.1kμx)·1[|μx| ≤ 1] over k = 1, 3, ..., 19, μ > 0.

    Xu 2021 (arXiv 2103.00841).
    """,
    ),
    surrogate(
        "rbnn",
        squashing.training_aware,
        "F(x) = sign(x), B(x) = k(√2·t - t²|x|)₊, t = μ > 0, k = max(1/t, 1). Lin 2020 (arXiv 2009.13055).",
    ),
    surrogate(
        "dsq",
        squashing.soft_quantization,
        "F(x) = sign(x), B(x) = μ(1 - tanh²(μx))/tanh(μ)·1[|x| ≤ 1], μ > 0. Gong 2019 (arXiv 1908.05033).",
    ),
    surrogate(
        "reste",
        squashing.power,
        """F(x) = sign(x), B(x) = |x|^{1/o-1}/o·1[|x| ≤ 1.5], but 0.1^{1/o-1} for |x| < 0.1, o = μ ≥ 1.

    At o = 1 it is BNN at another width, and legitimate. Wu 2023 (arXiv 2308.06689).
    """,
    ),
)

SURROGATES: dict[str, Heuristic] = {surrogate.name: surrogate for surrogate in _SURROGATES}
"""Further surrogates of the literature, by name; use them like the pairs of `PAIRS`."""
