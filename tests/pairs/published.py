"""F and B of every pair in numpy float64, as the papers print them, none of the library's stable forms among them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Form = Callable[[Array, float], Array]


@dataclass(frozen=True)
class Published:
    """F_μ and B_μ of one pair."""

    forward: Form
    backward: Form


def sign(x: Array, mu: float = 1.0) -> Array:
    return np.where(x >= 0, 1.0, -1.0)


def one(x: Array, mu: float) -> Array:
    return np.ones_like(x)


def logistic(u: Array) -> Array:
    return 1 / (1 + np.exp(-u))


def piecewise_linear(x: Array, rho: float, varrho: float) -> Array:
    """L(ρ, ϱ) of Dockhorn 2021."""
    if rho == 1:
        return sign(x)
    inner = sign(x) * (varrho + np.abs(x) * (1 - varrho) / (1 - rho))
    return np.where(np.abs(x) >= 1 - rho, sign(x), inner)


def sign_swish(x: Array, mu: float) -> Array:
    s = logistic(mu * x)
    return 2 * s * (1 + mu * x * (1 - s)) - 1


def sign_swish_derivative(x: Array, mu: float) -> Array:
    return mu * (2 - mu * x * np.tanh(mu * x / 2)) / (1 + np.cosh(mu * x))


def polynomial(x: Array, mu: float) -> Array:
    v = mu * x
    return np.where(np.abs(v) <= 1, 2 * v - v * np.abs(v), sign(v))


def polynomial_derivative(x: Array, mu: float) -> Array:
    return mu * np.maximum(2 - 2 * np.abs(mu * x), 0)


def error_decay(x: Array, mu: float) -> Array:
    return max(1 / mu, 1) * np.tanh(mu * x)


def error_decay_derivative(x: Array, mu: float) -> Array:
    return max(1 / mu, 1) * mu * (1 - np.tanh(mu * x) ** 2)


def error_function(x: Array, mu: float) -> Array:
    return np.vectorize(math.erf)(mu * x)


def gaussian(x: Array, mu: float) -> Array:
    """Twice the density of variance a₄ = 1/(2μ²), as sign is twice a step."""
    a = 1 / (2 * mu**2)
    return 2 / np.sqrt(2 * np.pi * a) * np.exp(-(x**2) / (2 * a))


def rectangle(x: Array, mu: float) -> Array:
    """Twice the rectangle of width a₁ = 2/μ and area 1."""
    a = 2 / mu
    return 2 * np.where(np.abs(x) <= a / 2, 1 / a, 0.0)


PUBLISHED: dict[str, Published] = {
    "fp": Published(lambda x, mu: x, one),
    "bc": Published(sign, one),
    "pc": Published(lambda x, mu: piecewise_linear(x, 1 - 1 / mu, 1 - 1 / mu), one),
    "parq": Published(lambda x, mu: np.clip(mu * x, -1, 1), one),
    "binaryrelax": Published(lambda x, mu: (x + (mu - 1) * sign(x)) / mu, one),
    "md": Published(lambda x, mu: np.tanh(mu * x), one),
    "bnn": Published(sign, lambda x, mu: np.where(np.abs(x) <= 1, 1.0, 0.0)),
    "bnn++": Published(sign_swish, sign_swish_derivative),
    "poly+": Published(polynomial, polynomial_derivative),
    "ede+": Published(error_decay, error_decay_derivative),
    "clip+": Published(lambda x, mu: np.clip(mu * x, -1, 1), rectangle),
    "erf+": Published(error_function, gaussian),
    "bnn+": Published(sign, sign_swish_derivative),
    "poly": Published(sign, lambda x, mu: np.maximum(2 - 2 * np.abs(x), 0)),
    "ede": Published(sign, error_decay_derivative),
    "erf": Published(sign, gaussian),
}


def fast_sigmoid(x: Array, mu: float) -> Array:
    """SuperSpike's (1 + β|x|)⁻² with β = μ, times μ."""
    return mu * (1 + mu * np.abs(x)) ** -2.0


def dirichlet(x: Array, mu: float) -> Array:
    """The n cosines of FDA are sin(2nθ)/(2 sin θ), here n = 10 and θ = μx/10."""
    theta = np.where(x == 0, 1e-9, 0.1 * mu * x)
    return np.where(np.abs(mu * x) <= 1, mu * 0.4 / np.pi * np.sin(20 * theta) / (2 * np.sin(theta)), 0.0)


def rotated(x: Array, mu: float) -> Array:
    """RBNN's k(2·√(t²/2) - |t²x|)₊."""
    return max(1 / mu, 1) * np.maximum(2 * np.sqrt(mu**2 / 2) - np.abs(mu**2 * x), 0)


def soft_quantization(x: Array, mu: float) -> Array:
    """The derivative of DSQ's s·tanh(k·x/2) with k = ln(2/α - 1), s = 1/(1 - α), α = 2/(e^{2μ} + 1) = 1 - tanh μ."""
    alpha = 2 / (np.exp(2 * mu) + 1)
    k, s = np.log(2 / alpha - 1), 1 / (1 - alpha)
    return np.where(np.abs(x) <= 1, s * k / 2 * (1 - np.tanh(k * x / 2) ** 2), 0.0)


def power(x: Array, o: float) -> Array:
    """ReSTE's |x|^((1-o)/o)/o between m and t, the difference quotient of |x|^(1/o) below m."""
    m, t, size = 0.1, 1.5, np.abs(x)
    beyond = np.maximum(size, m) ** ((1 - o) / o) / o
    return np.where(size < m, m ** (1 / o) / m, np.where(size <= t, beyond, 0.0))


FACTORS: dict[str, Form] = {
    "arctan": lambda x, mu: 2 * mu / 2 / (1 + (np.pi / 2 * mu * x) ** 2),
    "superspike": fast_sigmoid,
    "slayer": lambda x, mu: 2 * mu / 2 * np.exp(-mu * np.abs(x)),
    "logistic": lambda x, mu: 2 * mu * np.exp(-mu * x) / (1 + np.exp(-mu * x)) ** 2,
    "rectangle": rectangle,
    "lsnn": lambda x, mu: 2 * mu * 0.3 * np.maximum(1 - np.abs(mu * x), 0),
    "fda": dirichlet,
    "rbnn": rotated,
    "dsq": soft_quantization,
    "reste": power,
}
"""B_μ of every surrogate in `SURROGATES`; a factor of 2 before a paper's own says that it stands for a step."""
