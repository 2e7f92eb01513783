"""F and B of every pair in numpy float64, as the papers print them, none of the library's stable forms among them."""

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
    "bnn+": Published(sign, sign_swish_derivative),
    "poly": Published(sign, lambda x, mu: np.maximum(2 - 2 * np.abs(x), 0)),
    "ede": Published(sign, error_decay_derivative),
}
