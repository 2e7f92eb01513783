"""The identity against a naive account in numpy, the bound against the loss, each failure by a run made to fail so."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

import proxconnect as pc
from proxconnect.inspection import plots
from proxconnect.pairs import PAIRS, AnyPair, Heuristic, Pair, Prox, prox, transform
from proxconnect.theory import average, decompose, prox_of, rescale
from proxconnect.theory.certificates.certificate import Certificate, certificate
from proxconnect.theory.certificates.recorder import Recorder
from proxconnect.theory.certificates.trajectory import Trajectory
from proxconnect.theory.new_pairs.composition import CallableProx, CallableTransform
from thorough import thorough_but

Gradient = Callable[[Tensor], Tensor]

PROXQUANT = Pair("proxquant", prox=prox.proxquant)


def gap(z: np.ndarray) -> np.ndarray:
    return np.abs(np.abs(z) - 1)


def entropy(z: np.ndarray) -> np.ndarray:
    inside = np.clip(np.abs(z), 0, 1 - 1e-16)
    h = 0.5 * ((1 + inside) * np.log1p(inside) + (1 - inside) * np.log1p(-inside))
    return np.where(np.abs(z) >= 1 - 1e-16, np.log(2), h)


TABLE: dict[str, tuple[Pair, Callable[[np.ndarray, float], np.ndarray]]] = {
    "fp": (PAIRS["fp"], lambda z, mu: z**2 / 2),
    "bnn++": (PAIRS["bnn++"], lambda z, mu: z**2 / 2),
    "poly+": (PAIRS["poly+"], lambda z, mu: z**2 / 2),
    "ede+": (PAIRS["ede+"], lambda z, mu: z**2 / 2),
    "bc": (PAIRS["bc"], lambda z, mu: z**2 / 2),
    "bnn": (PAIRS["bnn"], lambda z, mu: z**2 / 2),
    "pc": (PAIRS["pc"], lambda z, mu: z**2 / 2 + (1 - 1 / mu) * gap(z)),
    "parq": (PAIRS["parq"], lambda z, mu: z**2 / 2 / mu),
    "binaryrelax": (PAIRS["binaryrelax"], lambda z, mu: z**2 / 2 + (mu - 1) / 2 * gap(z) ** 2),
    "proxquant": (PROXQUANT, lambda z, mu: z**2 / 2 + (mu - 1) * gap(z)),
    "md": (PAIRS["md"], lambda z, mu: entropy(z) / mu),
}
"""Φ of every pair on its domain, as section 5 of the mathematics has it."""

AFFINE = [name for name, (pair, _) in TABLE.items() if pair.transform == transform.identity]


def descend(
    pair: AnyPair, gradient: Gradient, start: Tensor, rates: list[float], mus: list[float]
) -> tuple[Trajectory, Tensor]:
    """PC++ in a few lines, its updates and gradients as they were used, and the quantised weights."""
    latent, latents, updates, gradients, weights = start, [start], [], [], []
    for rate, mu in zip(rates, mus, strict=False):
        weights.append(pair.forward(latent, mu))
        gradients.append(gradient(weights[-1]))
        updates.append(pair.backward(latent, mu) * gradients[-1])
        latent = latent - rate * updates[-1]
        latents.append(latent)
    rows = [torch.stack(values) for values in (latents, updates, gradients, weights)]
    numbers = [torch.tensor(values, dtype=torch.float64) for values in (mus, rates)]
    return Trajectory(rows[0], numbers[0], numbers[1], rows[1], rows[2]), rows[3]


def distance_to(target: float) -> tuple[Callable[[Tensor], Tensor], Gradient]:
    """½‖w - target‖² and its gradient."""
    return lambda w: 0.5 * (w - target).square().sum(), lambda w: w - target


def quadratic(seed: int, n: int) -> tuple[Callable[[Tensor], Tensor], Gradient, Tensor]:
    """A random convex quadratic, not strictly convex at times, and a start."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(int(random.integers(1, n + 1)), n))
    a, b = torch.from_numpy(root.T @ root / n), torch.from_numpy(random.normal(size=n))
    return lambda w: 0.5 * w @ a @ w - b @ w, lambda w: a @ w - b, torch.from_numpy(random.normal(size=n))


def steady(steps: int, rate: float = 0.5, mu: float = 2.0) -> tuple[list[float], list[float]]:
    """η_t = rate/√t at one μ."""
    return [rate / math.sqrt(t + 1) for t in range(steps)], [mu] * (steps + 1)


def failing(found: Certificate) -> list[str]:
    return [check.name for check in found.checks if check.holds is False]


@pytest.mark.parametrize("name", TABLE)
@settings(max_examples=6)
@given(data=st.data())
def test_both_sides_of_the_identity_are_those_of_a_naive_account(name: str, data: st.DataObject) -> None:
    pair, phi = TABLE[name]
    steps, n = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    rates = data.draw(st.lists(st.floats(1e-3, 1.0), min_size=steps, max_size=steps))
    lowest = max(0.2, pair.sharpness.lowest) if pair.sharpness else 1.0
    mus = data.draw(st.lists(st.floats(lowest, 30.0), min_size=steps + 1, max_size=steps + 1))
    loss, gradient, start = quadratic(data.draw(st.integers(0, 10**6)), n)
    run, _ = descend(pair, gradient, start, rates, mus)
    found = certificate(run, pair, loss)
    assert found.account is not None
    assert found.identity.value < 1e-10
    assert found.proximality.holds is True
    x, g = run.latents.numpy(), run.updates.numpy()
    p = np.stack([pair.prox(row, mu).numpy() for row, mu in zip(run.latents, mus, strict=True)])

    def delta(k: int, w: np.ndarray) -> float:
        return float(np.sum(phi(w, mus[k]) - phi(p[k], mus[k]) - (w - p[k]) * x[k]))

    for w, left, right in zip(found.account.points.numpy(), found.account.left, found.account.right, strict=True):
        ours = theirs = 0.0
        for k in range(steps):
            shift = [phi(z, mus[k + 1]) - phi(z, mus[k]) for z in (p[k], w)]
            ours += float(np.sum(rates[k] * (p[k] - w) * g[k] + shift[0] - shift[1]))
            theirs += delta(k + 1, p[k])
            size = 1e-11 * (1 + abs(ours) + np.abs(x).max() ** 2 * max(mus) * n)
            assert float(left[k]) == pytest.approx(ours, abs=size)
            assert float(right[k]) == pytest.approx(delta(0, w) - delta(k + 1, w) + theirs, abs=size)


@pytest.mark.parametrize("name", AFFINE)
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), mus=st.lists(st.floats(1.0, 20.0), min_size=31, max_size=31))
def test_a_convex_loss_is_bounded_at_every_horizon_while_mu_moves(name: str, seed: int, mus: list[float]) -> None:
    pair, _ = TABLE[name]
    loss, gradient, start = quadratic(seed, 4)
    rates = steady(30)[0]
    run, weights = descend(pair, gradient, start, rates, mus)
    found = certificate(run, pair, loss)
    assert found.holds is True, str(found)
    assert found.account is not None
    losses = torch.stack([loss(w) for w in weights])
    lowest = min(float(loss(w)) for w in found.account.points)
    eta = torch.tensor(rates, dtype=torch.float64)
    average = (eta * (losses - lowest)).cumsum(0) / eta.cumsum(0)
    assert found.excess is not None
    assert found.bound is not None
    assert torch.allclose(found.excess, average, rtol=0, atol=1e-12)
    assert (found.excess >= 0).all()  # the best prox point is among the comparison points
    assert (found.excess <= found.bound + 1e-12).all()
    assert torch.allclose(found.bound - sum(found.unused.values()), found.excess, rtol=0, atol=1e-9)


def test_the_slack_is_that_of_the_loss_of_the_transform() -> None:
    """By central differences of ℓ∘T, with P the identity."""
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["bnn++"], gradient, torch.tensor([0.4, -0.6], dtype=torch.float64), *steady(12))
    found = certificate(run, "bnn++", loss, at=torch.tensor([0.3, -0.1], dtype=torch.float64))
    assert found.excesses is not None

    def composite(p: Tensor) -> Tensor:
        return loss(PAIRS["bnn++"].transform(p, 2.0))

    w, h = torch.tensor([0.3, -0.1], dtype=torch.float64), 1e-5
    for p, slack in zip(run.latents, found.excesses.slacks[0], strict=False):
        towards = (composite(p + h * (p - w)) - composite(p - h * (p - w))) / (2 * h)
        assert float(slack) == pytest.approx(float(towards - composite(p) + composite(w)), abs=1e-8)


def test_binaryconnect_keeps_an_average_excess_of_0_09_for_ever() -> None:
    """At +1 the gradient is 0.9, at -1 it is -1.1: 55 % of the time at +1, whose loss is 0.405, the rest at 0.605."""
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["bc"], gradient, torch.tensor([0.05], dtype=torch.float64), *steady(4000))
    found = certificate(run, "bc", loss)
    assert found.holds is True
    assert found.excess is not None
    assert float(found.excess[1999]) == pytest.approx(0.09, abs=1e-3)
    assert float(found.excess[-1]) == pytest.approx(0.09, abs=1e-3)
    assert found.persistent == "ΣΔ_τ(p_τ)"
    # Of a quadratic the slack is ½(p - w)²: 2 for the 45 % of the time at -1.
    assert float(found.terms["ΣΔ_τ(p_τ)"][-1]) == pytest.approx(0.09 + 0.9, abs=2e-3)
    assert float(found.unused["slack of convexity"][-1]) == pytest.approx(0.9, abs=2e-3)


def test_a_second_half_without_learning_rate_has_no_persistent_term() -> None:
    loss, gradient = distance_to(0.1)
    rates = [0.1] * 4 + [0.0] * 4
    run, _ = descend(PAIRS["bc"], gradient, torch.tensor([0.05], dtype=torch.float64), rates, steady(8)[1])
    found = certificate(run, "bc", loss)
    assert found.bound is not None
    assert math.isnan(found.halves(found.bound)[1])
    assert found.persistent is None
    assert str(found).endswith("The run inherits the guarantee.")


def test_nor_has_one_without_learning_rate_in_which_the_sharpness_moves() -> None:
    latents = torch.tensor([[0.5, -0.3], [0.4, -0.2], [0.3, -0.1], [0.3, -0.1], [0.3, -0.1]])
    run = Trajectory.from_latents(latents, [0.1, 0.1, 0.0, 0.0], [1.0, 1.0, 1.0, 2.0, 3.0])
    found = certificate(run, "pc")
    assert found.bound is not None
    assert all(math.isnan(found.halves(values)[1]) for values in (found.bound, *found.terms.values()))
    assert found.persistent is None
    assert str(found).endswith("Whether it inherits the guarantee is not decided.")


def test_a_certificate_made_under_inference_mode_is_the_same() -> None:
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["bnn++"], gradient, torch.tensor([0.4, -0.6], dtype=torch.float64), *steady(12))
    with torch.inference_mode():
        found = certificate(run, "bnn++", loss)
    assert str(found) == str(certificate(run, "bnn++", loss))


def noisy(name: str, steps: int, rate: float, at: float = 0.3) -> Certificate:
    """A run on ½(w - at)² by its gradient with noise of deviation 1, which no step size but a falling one averages."""
    random = torch.Generator().manual_seed(0)
    loss, gradient = distance_to(at)
    start = torch.tensor([0.5], dtype=torch.float64)
    draws = iter(torch.randn(steps, 1, dtype=torch.float64, generator=random))
    rates = [rate] * steps if name == "constant" else steady(steps, rate)[0]
    run, _ = descend(PAIRS["parq"], lambda w: gradient(w) + next(draws), start, rates, [2.0] * (steps + 1))
    return certificate(run, "parq", loss, at=torch.tensor([at], dtype=torch.float64))


def test_what_keeps_the_bound_up_is_named_where_it_does() -> None:
    """The noise adds Δ_τ ≈ ½μη² a step: over Ση that is ½μη for ever at a constant η, and log t/√t at η/√t."""
    constant, falling = noisy("constant", 4000, 0.05), noisy("falling", 4000, 0.5)
    assert constant.persistent == "ΣΔ_τ(p_τ)"
    assert constant.halves(constant.terms["ΣΔ_τ(p_τ)"])[1] == pytest.approx(0.5 * 2 * 0.05, rel=0.1)
    assert falling.persistent is None
    assert constant.halves(constant.terms["Δ₀(w)"])[1] == pytest.approx(0, abs=1e-12)


def test_a_moving_potential_may_keep_the_bound_up() -> None:
    """Of latents that hardly move the other terms are next to nothing."""
    loss, gradient = distance_to(0.9)
    mus = [1 + 0.01 * t for t in range(201)]
    start = torch.tensor([0.9], dtype=torch.float64)
    run, _ = descend(PAIRS["binaryrelax"], gradient, start, [1e-3] * 200, mus)
    found = certificate(run, "binaryrelax", loss, at=torch.tensor([0.5], dtype=torch.float64))
    assert found.persistent == "drift of Φ"
    # Φ moves by ½·0.01·dist² a step: at w by ½·0.01·0.25, at p by less, over η.
    assert found.halves(found.terms["drift of Φ"])[1] == pytest.approx(0.5 * 0.01 * 0.25 / 1e-3, rel=0.02)


def test_halves_are_averages_weighted_by_the_learning_rate() -> None:
    loss, gradient = distance_to(0.1)
    run, weights = descend(PAIRS["md"], gradient, torch.tensor([0.7], dtype=torch.float64), *steady(7))
    found = certificate(run, "md", loss, at=torch.tensor([0.1], dtype=torch.float64))
    losses, eta = torch.stack([loss(w) for w in weights]), run.learning_rates
    by_hand = [float((eta * losses)[part].sum() / eta[part].sum()) for part in (slice(0, 3), slice(3, 7))]
    assert found.excess is not None
    assert found.halves(found.excess) == pytest.approx(by_hand)


def test_a_single_step_has_no_halves() -> None:
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["md"], gradient, torch.tensor([0.7], dtype=torch.float64), [0.1], [2.0, 2.0])
    found = certificate(run, "md", loss)
    assert found.persistent is None
    assert "excess over w                                  -" in str(found)


def test_the_comparison_point_is_the_one_of_lowest_loss_and_may_be_given() -> None:
    loss, gradient = distance_to(-0.3)
    run, weights = descend(PAIRS["md"], gradient, torch.tensor([0.4, 2.0], dtype=torch.float64), *steady(50))
    found = certificate(run, "md", loss, at=torch.tensor([[0.9, 0.9], [-0.3, -0.3], [1.0, -1.0]]))
    assert found.chosen == 1
    assert found.excesses is not None
    assert torch.allclose(found.excesses.values[1], torch.stack([loss(w) for w in weights]), rtol=0, atol=1e-14)


@dataclass(frozen=True)
class Said(Prox):
    """A map that is said to be the prox of r."""

    function: Gradient
    r: Gradient

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        return self.function(x)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        return self.r(z)


BACKWARDS = Said(lambda x: -prox.sign(x, 1.0), lambda z: prox.sign.regularizer(z, 1.0))
SHORT = Said(lambda x: 0.999 * x, torch.zeros_like)
OUTSIDE = Said(torch.clone, lambda z: torch.where(z.abs() <= 1, 0.0, torch.inf))
"""-sign, almost the identity, and the identity said to be confined to [-1, 1]."""


@pytest.mark.parametrize("wrong", [BACKWARDS, SHORT], ids=["backwards", "short"])
def test_a_prox_that_is_no_minimiser_fails_the_first_condition_alone(wrong: Prox) -> None:
    loss, gradient = distance_to(0.1)
    run, _ = descend(Pair("wrong", prox=wrong), gradient, torch.tensor([0.4, -0.6], dtype=torch.float64), *steady(30))
    found = certificate(run, Pair("wrong", prox=wrong), loss)
    assert failing(found) == ["proximality"]
    assert found.holds is False
    assert found.proximality.value < 0
    assert found.reason.startswith("proximality fails: least Δ(w) -")
    if wrong is BACKWARDS:  # Δ(-p) = -2|w*|, at the largest latent
        latents = run.latents.abs()
        assert found.proximality.value == pytest.approx(-2 * float(latents.max()))
        assert latents[found.proximality.step, found.proximality.entry] == latents.max()


def test_a_prox_point_outside_the_domain_fails_the_first_condition() -> None:
    _, gradient = distance_to(0.1)
    pair = Pair("wrong", prox=OUTSIDE)
    run, _ = descend(pair, gradient, torch.tensor([0.5, 3.0], dtype=torch.float64), *steady(30))
    found = certificate(run, pair)
    assert failing(found) == ["proximality"]
    assert (found.proximality.value, found.proximality.entry) == (-math.inf, 1)
    assert found.identity.holds is None


def test_a_wrong_backward_fails_the_second_condition_alone() -> None:
    """The update of step 7, entry 1 is that of B = 1.001; then the gradients are not recorded but the loss's."""
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["bc"], gradient, torch.tensor([0.4, -0.6], dtype=torch.float64), *steady(30))
    factor = torch.ones_like(run.updates)
    factor[6, 1] = 1.001
    updates = factor * run.updates
    rates = run.learning_rates[:, None]
    latents = torch.cat([run.latents[:1], run.latents[0] - (rates * updates).cumsum(0)])
    assert torch.equal(prox.sign(latents, 1.0), prox.sign(run.latents, 1.0))
    for gradients in (run.gradients, None):
        found = certificate(Trajectory(latents, run.mu, run.learning_rates, updates, gradients), "bc", loss)
        assert failing(found) == ["gradient"]
        assert (found.gradient.step, found.gradient.entry) == (7, 1)
        assert found.gradient.value == pytest.approx(1e-3, rel=1e-2)


def test_a_pair_used_for_another_fails_the_second_condition() -> None:
    """md's weights, taken for those of parq: both are prox maps with T = identity."""
    loss, gradient = distance_to(0.1)
    run, weights = descend(PAIRS["md"], gradient, torch.tensor([0.4, -0.6], dtype=torch.float64), *steady(30))
    recorded = Trajectory.from_latents(run.latents, run.learning_rates, run.mu, weights=weights)
    assert certificate(recorded, "md", loss).holds is True
    assert failing(certificate(recorded, "parq", loss)) == ["forward", "gradient"]


def test_a_transform_that_moves_with_mu_fails_the_second_condition_alone() -> None:
    _, gradient = distance_to(0.1)
    start = torch.tensor([0.4, -0.6], dtype=torch.float64)
    for name, moving in (("bnn++", True), ("bnn++", False), ("md", True)):
        mus = [1.0 + 0.1 * t for t in range(31)] if moving else [2.0] * 31
        run, _ = descend(PAIRS[name], gradient, start, steady(30)[0], mus)
        found = certificate(run, name)
        assert failing(found) == (["forward", "gradient"] if name == "bnn++" and moving else [])
        assert found.convexity.holds is None
        if failing(found):
            assert found.reason.startswith("forward fails: T moves with μ")


def test_mu_may_move_after_the_last_step() -> None:
    _, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["bnn++"], gradient, torch.tensor([0.4], dtype=torch.float64), *steady(9))
    last = torch.cat([run.mu[:-1], torch.tensor([5.0], dtype=torch.float64)])
    moved = Trajectory(run.latents, last, run.learning_rates, run.updates, run.gradients)
    assert failing(certificate(moved, "bnn++")) == []


@pytest.mark.parametrize("name", ["fp", "md"])
def test_a_loss_that_is_not_convex_fails_the_third_condition_alone(name: str) -> None:
    run, _ = descend(PAIRS[name], lambda w: -torch.sin(w), torch.tensor([0.4, -0.3], dtype=torch.float64), *steady(30))
    found = certificate(run, name, lambda w: torch.cos(w).sum())
    assert failing(found) == ["convexity"]
    assert found.convexity.value < -1e-3


def test_updates_that_do_not_make_the_latents_fail_the_identity() -> None:
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["pc"], gradient, torch.tensor([0.4, -0.6], dtype=torch.float64), *steady(30))
    latents = run.latents.clone()
    latents[5] += 1e-6
    wrong = Trajectory(latents, run.mu, run.learning_rates, run.updates)
    assert failing(certificate(wrong, "pc")) == ["identity"]
    rates = run.learning_rates.clone()
    rates[4] *= 1 + 1e-6
    wrong = Trajectory(run.latents, run.mu, rates, run.updates, run.gradients)
    assert failing(certificate(wrong, "pc", loss)) == ["identity"]


def test_momentum_is_no_step_by_the_pair() -> None:
    loss, gradient = distance_to(0.1)
    latent, velocity, latents = torch.tensor([0.4, -0.6], dtype=torch.float64), 0.0, []
    for _ in range(20):
        latents.append(latent)
        velocity = 0.9 * velocity + gradient(PAIRS["md"].forward(latent, 2.0))
        latent = latent - 0.1 * velocity
    found = certificate(Trajectory.from_latents(latents, 0.1, 2.0), "md", loss)
    assert failing(found) == ["gradient"]
    assert found.gradient.step is not None


def test_what_is_not_checked_is_not_decided() -> None:
    _, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["md"], gradient, torch.tensor([0.4], dtype=torch.float64), *steady(9))
    bare = Trajectory.from_latents(run.latents, run.learning_rates, run.mu)
    found = certificate(bare, "md")
    assert found.holds is None
    assert [check.name for check in found.checks if check.holds is None] == ["gradient", "convexity"]
    assert found.reason == "gradient is not known: g needs a loss, or recorded gradients"
    assert found.excess is None
    assert "is not decided" in str(found)


@pytest.mark.parametrize("name", ["bnn+", "poly", "ede"])
def test_a_heuristic_is_refused_with_the_reason_of_its_verdict(name: str) -> None:
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS[name], gradient, torch.tensor([0.4], dtype=torch.float64), *steady(9))
    found = certificate(run, name, loss)
    assert found.holds is False
    assert decompose(name, mu=2.0 if PAIRS[name].sharpness else None).reason in found.reason
    assert "theory.correct" in found.reason
    assert (found.account, found.bound, found.excess, found.persistent) == (None, None, None, None)
    assert str(found).splitlines()[2].startswith("No account exists: ")


def test_a_heuristic_that_is_legitimate_is_asked_to_be_declared() -> None:
    heuristic = Heuristic("mine", forward=PAIRS["bnn++"].forward, backward=PAIRS["bnn++"].backward)
    _, gradient = distance_to(0.1)
    run, _ = descend(heuristic, gradient, torch.tensor([0.4], dtype=torch.float64), *steady(9, mu=1.0))
    reason = certificate(run, heuristic).reason
    assert "'mine' is legitimate, but states neither P nor T" in reason
    assert "theory.synthesize" in reason


@pytest.mark.parametrize(("start", "wrong"), [(0.9, True), (-0.3, False)])
def test_a_transform_whose_derivative_is_not_its_own_fails_the_second_condition(start: float, wrong: bool) -> None:
    """Where the run is; g is T'(p) ⊙ ∇ℓ as the pair states it, so that the update alone shows nothing."""
    leaning = CallableTransform(lambda p: p * p + 2 * p, lambda p: 2 * p + torch.where(p < 0.2, 2.0, 2.1))
    pair = Pair("leaning", transform=leaning)
    _, gradient = distance_to(-0.9)
    run, _ = descend(pair, gradient, torch.tensor([start, -0.4], dtype=torch.float64), *steady(30, rate=0.1))
    found = certificate(run, pair)
    assert failing(found) == (["gradient"] if wrong else [])
    assert ("the declared T' is" in found.gradient.detail) == wrong


def steps(jump: float) -> Prox:
    """An asymmetric prox with a jump, a slope and a plateau, that states no r; or with a fall."""
    return CallableProx(lambda x: torch.where(x < 0.3, 0.5 * x, 0.5 * x + jump).clamp(max=1.0))


def test_a_prox_without_a_stated_potential_gets_one() -> None:
    loss, gradient = distance_to(0.5)
    pair = Pair("steps", prox=steps(0.4))
    run, _ = descend(pair, gradient, torch.tensor([0.4, -0.6, 3.0], dtype=torch.float64), *steady(100))
    found = certificate(run, pair, loss, at=torch.full((3,), 0.5))
    assert found.holds is True, str(found)
    assert found.excess is not None
    assert found.bound is not None
    assert (found.excess <= found.bound + 1e-9).all()
    far, _ = descend(pair, gradient, torch.tensor([0.4, -5000.0], dtype=torch.float64), *steady(9))
    assert certificate(far, pair, loss).holds is True
    fallen = certificate(run, Pair("fallen", prox=steps(-0.1)), loss)
    assert fallen.holds is False
    assert "P falls by 0.1 from 0.15 between x = 0.3 and 0.3" in fallen.reason


@pytest.mark.parametrize(
    "prox_map",
    [
        prox_of(lambda z: 2 * (z.abs() - 1).abs()),
        prox_of(lambda z: 0.7 * z.abs()),
        average([prox.sign, prox.tanh]),
        rescale(Pair("average", prox=average([prox.sign, prox.parq])), inner=2.0).prox,
    ],
    ids=["prox_of dist", "prox_of abs", "average", "rescaled average"],
)
def test_a_prox_that_was_made_has_an_account(prox_map: Prox) -> None:
    pair = Pair("made", prox=prox_map)
    loss, gradient = distance_to(0.1)
    run, _ = descend(pair, gradient, torch.tensor([0.4, -0.6, 3.0], dtype=torch.float64), *steady(60))
    found = certificate(run, pair, loss)
    assert found.holds is True, str(found)


def test_points_outside_the_domain_and_sharpness_outside_the_range_are_refused() -> None:
    _, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["md"], gradient, torch.tensor([0.4, 0.1], dtype=torch.float64), *steady(9, mu=0.5))
    with pytest.raises(ValueError, match="point 1 of at is outside the domain"):
        certificate(run, "md", at=torch.tensor([[0.0, 1.0], [0.0, 1.1]]))
    with pytest.raises(ValueError, match=r"shape \(n,\) or \(m, n\) with n = 2"):
        certificate(run, "md", at=torch.zeros(3))
    with pytest.raises(ValueError, match="pair 'pc' needs a finite sharpness"):
        certificate(run, "pc")
    with pytest.raises(ValueError, match="loss must map"):
        certificate(run, "md", lambda w: w)


@pytest.mark.parametrize("name", thorough_but(["pc", "md", "bnn+", "poly+"], PAIRS))
def test_prints_in_80_columns(name: str) -> None:
    loss, gradient = distance_to(0.1)
    start, mus = torch.randn(300, dtype=torch.float64), [1 + t / 20 for t in range(100)]
    run, _ = descend(PAIRS[name], gradient, start, steady(99)[0], mus)
    for found in (certificate(run, name, loss), certificate(run, name)):
        lines = str(found).splitlines()
        assert lines[0] == f"{name}: 99 steps of 300 latents"
        assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", ["pc", "md", "bnn", "bnn++"])
@pytest.mark.parametrize("rate", [0.5, 1e-4])
def test_a_run_in_float32_is_judged_by_its_own_rounding(name: str, rate: float) -> None:
    pair, start = PAIRS[name], torch.randn(20)
    for factor in (1.0, 1.01):
        latent, rows = start, []
        for _ in range(50):
            weight = pair.forward(latent, 2.0)
            rows.append((latent, weight, weight - 0.1))
            latent = latent - rate * factor * pair.backward(latent, 2.0) * (weight - 0.1)
        latents, weights, gradients = zip(*rows, strict=True)
        run = Trajectory.from_latents(
            latents, rate, 2.0, gradients=gradients[:-1], weights=weights[:-1], resolution=2.0**-23
        )
        expected = ["gradient"] if factor > 1 and rate == 0.5 else []  # at 1e-4 the latents' rounding hides 1 % of g
        assert failing(certificate(run, pair)) == expected


def test_a_loss_that_the_run_did_not_descend_is_owed_nothing() -> None:
    """Though g is T'(p) ⊙ the gradients of the run, and the identity and the convexity inequality hold."""
    loss, gradient = distance_to(0.1)
    start = torch.tensor([0.05, -0.3], dtype=torch.float64)
    up, _ = descend(PAIRS["bc"], lambda w: -gradient(w), start, *steady(50))
    found = certificate(up, "bc", loss)
    assert failing(found) == ["gradient"]
    assert "this loss" in found.reason
    assert bool((found.excess > found.bound).any())
    assert failing(certificate(up, "bc")) == []


def recorded(pair: str, optimize: Callable[..., torch.optim.Optimizer], rule: object = None) -> Certificate:
    """The certificate of the first layer of a small float32 network that a usual loop trains, on batches."""
    model = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))
    pc.binarize(model, weights=pair, scale=None, keep=())
    for layer in (model[0], model[2]):
        layer.weight_quantizer.mu.fill_(2.0)
    optimizer = optimize(model.parameters())
    recorder = Recorder(optimizer, model)
    if callable(rule):
        rule(optimizer, model)
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(model(torch.randn(16, 5)), torch.randint(2, (16,))).backward()
        optimizer.step()
    recorder.remove()
    return certificate(recorder.trajectories()["0"], pair)


def sgd(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.parametrize("name", [name for name, pair in PAIRS.items() if isinstance(pair, Pair)])
def test_a_recorded_run_by_batches_is_a_run_by_its_pair(name: str) -> None:
    """Whether ℓ∘T is convex no batch can tell."""
    found = recorded(name, sgd)
    assert [check.name for check in found.checks if check.holds is not True] == ["convexity"], str(found)


def test_another_optimizer_or_rule_is_told_apart() -> None:
    assert failing(recorded("parq", torch.optim.AdamW)) == ["gradient"]
    assert failing(recorded("parq", sgd, pc.proxquant)) == ["gradient"]  # the step starts from P(w*)
    assert failing(recorded("bnn++", sgd, pc.proxquant)) == []  # which is w* here
    assert failing(recorded("parq", sgd, pc.post_training)) == ["forward"]  # the gradient is that at w*
    assert failing(recorded("parq", sgd, pc.reverse_proxconnect)) == ["forward", "gradient"]


def test_the_picture_draws_excesses_and_their_bounds() -> None:
    loss, gradient = distance_to(0.1)
    run, _ = descend(PAIRS["bc"], gradient, torch.tensor([0.05], dtype=torch.float64), *steady(60))
    found = certificate(run, "bc", loss)
    assert found.excess is not None
    figure = plots.plot_excesses({"one": {"bc": (found.excess, found.bound), "poly, again": (found.excess, None)}})
    excess, bound, unbounded, _ = figure.axes[0].lines
    drawn = torch.as_tensor(excess.get_ydata())
    assert torch.equal(drawn[found.excess > 0], found.excess[found.excess > 0])
    assert drawn[found.excess <= 0].isnan().all()
    assert torch.equal(torch.as_tensor(bound.get_ydata()), found.bound)
    assert [line.get_linestyle() for line in (excess, bound, unbounded)] == ["-", "--", ":"]
    assert unbounded.get_color() == plots.PAIR_COLOURS["poly"]


def test_a_loss_may_overwrite_its_copy_of_the_weights() -> None:
    latents = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(4, 3)
    run = Trajectory.from_latents(latents, 0.1)
    plain, in_place = (
        certificate(run, "fp", loss=loss) for loss in (lambda w: w.square().sum(), lambda w: w.square_().sum())
    )
    assert torch.equal(plain.excess, in_place.excess)


def test_a_loss_may_be_infinite_at_a_comparison_point() -> None:
    """As a barrier is at ±1; that point then bounds nothing."""
    run = Trajectory.from_latents(torch.linspace(-0.5, 0.5, 12, dtype=torch.float64).reshape(4, 3), 0.1)
    found = certificate(run, "fp", loss=lambda w: -torch.log1p(-w * w).sum())
    assert found.convexity.holds
    assert found.excess.isfinite().all()
