"""The library against the recursion of PC++, w = αF(w*/ᾱ), w* ← w* - η (α/ᾱ) B(w*/ᾱ) ⊙ ∇ℓ(w), while μ moves.

Once to the bit, against a twin of a few lines of torch, and once to 1e-9, against numpy with the papers' own formulas.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, mse_loss

from pairs.published import PUBLISHED
from proxconnect import PAIRS, BinaryLinear
from proxconnect.pairs import AnyPair

STEPS = 100
SCALES = ("channel", "tensor", None)
OPTIMIZERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.5, weight_decay=1e-3),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01),
}
every_setting = pytest.mark.parametrize(
    ("name", "scale", "optimizer"), [(n, s, o) for n in PAIRS for s in SCALES for o in OPTIMIZERS]
)


# Least squares: 16 inputs of 6 entries, 4 targets each, and the latents from where to start.
_random = torch.Generator().manual_seed(0)
INPUTS, TARGETS, START = (torch.randn(*n, dtype=torch.float64, generator=_random) for n in ((16, 6), (16, 4), (4, 6)))
START *= 0.4


def sharpnesses(pair: AnyPair) -> Iterator[float]:
    """μ from a soft start to ten times that."""
    start = max(pair.sharpness.lowest, 0.5) if pair.sharpness else 1.0
    return iter((start * np.geomspace(1, 10, STEPS)).tolist())


@cache
def run_library(name: str, scale: str | None, optimizer: str) -> list[Tensor]:
    layer = BinaryLinear(6, 4, bias=False, dtype=torch.float64, weights=name, scale=scale)  # type: ignore[arg-type]
    layer.weight = START
    stepper = OPTIMIZERS[optimizer](list(layer.parameters()))
    latents = []
    for mu in sharpnesses(PAIRS[name]):
        layer.weight_quantizer.mu.fill_(mu)
        stepper.zero_grad()
        mse_loss(layer(INPUTS), TARGETS).backward()
        stepper.step()
        latents.append(layer.latent.detach().clone())
    return latents


def run_twin(name: str, scale: str | None, optimizer: str) -> list[Tensor]:
    latent, pair = START.clone(), PAIRS[name]
    stepper, latents = OPTIMIZERS[optimizer]([latent]), []
    dims = [1] if scale == "channel" else [0, 1]
    for mu in sharpnesses(pair):
        x, alpha, ratio = latent, None, None
        if scale is not None:
            alpha_bar = latent.abs().mean(dims, keepdim=True)
            x = latent / alpha_bar
        quantised = pair.forward(x, mu)
        if pair.is_identity:  # α·(w*/ᾱ) is w* up to rounding
            quantised = latent
        elif scale is not None:
            alpha = (latent * quantised).sum(dims, keepdim=True) / quantised.square().sum(dims, keepdim=True)
            ratio = alpha / alpha_bar
        weight = (quantised if alpha is None else alpha * quantised).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(mse_loss(linear(INPUTS, weight), TARGETS), weight)
        factor = pair.backward(x, mu)
        latent.grad = gradient * (factor if ratio is None else factor * ratio)
        stepper.step()
        latents.append(latent.clone())
    return latents


@pytest.mark.covering(together=("scale optimizer",))
@every_setting
def test_equals_the_torch_twin_to_the_bit(name: str, scale: str | None, optimizer: str) -> None:
    ours, twin = run_library(name, scale, optimizer), run_twin(name, scale, optimizer)
    different = [t for t, (a, b) in enumerate(zip(ours, twin, strict=True)) if not torch.equal(a, b)]
    assert not different, f"differs from step {different[0]} on"
    assert len({tuple(w.flatten().tolist()) for w in ours}) > STEPS // 2, "the run stood still"


class NumpySGD:
    """w ← w - η v, v ← ½v + (g + λw); v starts at the first gradient."""

    velocity: np.ndarray | float = 0.0

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        self.velocity = 0.5 * self.velocity + (g + 1e-3 * w)
        return w - 0.01 * self.velocity


class NumpyAdamW:
    """Loshchilov 2019, algorithm 2, with PyTorch's defaults."""

    def __init__(self) -> None:
        self.first: np.ndarray | float = 0.0
        self.second: np.ndarray | float = 0.0
        self.count = 0

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * g
        self.second = 0.999 * self.second + 0.001 * g**2
        first, second = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
        return w * (1 - 0.01 * 0.01) - 0.01 * first / (np.sqrt(second) + 1e-8)


def run_numpy(name: str, scale: str | None, optimizer: str) -> list[np.ndarray]:
    inputs, targets, w = (t.numpy() for t in (INPUTS, TARGETS, START))
    stepper: NumpySGD | NumpyAdamW = NumpySGD() if optimizer == "SGD" else NumpyAdamW()
    axis = 1 if scale == "channel" else None
    latents = []
    for mu in sharpnesses(PAIRS[name]):
        alpha_bar = np.ones((1, 1)) if scale is None else np.mean(np.abs(w), axis=axis, keepdims=True)
        f = PUBLISHED[name].forward(w / alpha_bar, mu)
        alpha = alpha_bar
        if scale is not None:
            alpha = np.sum(w * f, axis=axis, keepdims=True) / np.sum(f * f, axis=axis, keepdims=True)
        residual = inputs @ (alpha * f).T - targets
        gradient = 2 * residual.T @ inputs / residual.size
        w = stepper.step(w, gradient * PUBLISHED[name].backward(w / alpha_bar, mu) * alpha / alpha_bar)
        latents.append(w)
    return latents


@pytest.mark.covering
@every_setting
def test_equals_an_independent_recursion(name: str, scale: str | None, optimizer: str) -> None:
    if name not in PUBLISHED:
        pytest.skip("a pair without published forms in tests/pairs/published.py")
    ours, theirs = run_library(name, scale, optimizer), run_numpy(name, scale, optimizer)
    assert max(np.abs(a.numpy() - b).max() for a, b in zip(ours, theirs, strict=True)) < 1e-9


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("stepper", ["SGD", "LBFGS"])
def test_a_closure_sees_quantised_weights(name: str, stepper: str) -> None:
    layer = BinaryLinear(6, 4, bias=False, dtype=torch.float64, weights=name)
    layer.weight = START
    optimizer = getattr(torch.optim, stepper)(layer.parameters(), lr=0.1)
    seen: list[tuple[Tensor, Tensor]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append((layer.latent.detach().clone(), layer.weight.detach().clone()))
        loss = mse_loss(layer(INPUTS), TARGETS)
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert len(seen) > (2 if stepper == "LBFGS" else 1)
    mu = float(layer.weight_quantizer.mu)
    for latent, weight in seen:
        alpha_bar = latent.abs().mean(1, keepdim=True)
        f = torch.from_numpy(PUBLISHED[name].forward((latent / alpha_bar).numpy(), mu)) if name in PUBLISHED else (
            PAIRS[name].forward(latent / alpha_bar, mu)
        )  # fmt: skip
        alpha = (latent * f).sum(1, keepdim=True) / (f * f).sum(1, keepdim=True)
        assert torch.allclose(weight, alpha * f, rtol=0, atol=1e-12)
    assert not torch.equal(seen[0][0], seen[-1][0]), "the closure never saw a moved latent"
