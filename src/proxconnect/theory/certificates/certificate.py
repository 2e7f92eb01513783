"""Certificates: whether a run inherits the guarantee of ProxConnect, its bound, and the part of it that is unused.

Sources: ProxConnect, Dockhorn 2021 (arXiv 2110.13220), and PC++, Lu 2023 (arXiv 2402.17710).
"""

from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from textwrap import wrap

import torch
from torch import Tensor

from proxconnect._support.arguments import require_callable, require_type
from proxconnect.pairs import AnyPair, Heuristic, Pair, resolve
from proxconnect.theory.certificates import checks
from proxconnect.theory.certificates.account import Account, Composite, Excess
from proxconnect.theory.certificates.checks import Check
from proxconnect.theory.certificates.potentials import NotProximalError, Potentials
from proxconnect.theory.certificates.trajectory import Trajectory
from proxconnect.theory.functions.blackbox import Function
from proxconnect.theory.verdicts.decomposition import decompose
from proxconnect.theory.verdicts.presentation import place

_CONDITIONS = ("  identity", "1 Δ(w) ≥ 0", "2 F(w*) = T(p)", "  g = T'(p)⊙∇ℓ", "3 convexity")


@dataclass(frozen=True, eq=False)
class Certificate:
    """The result of `certificate`: whether a run inherits the guarantee of ProxConnect, and its bound; `print` it.

    If `holds` is True, `excess` ≤ `bound` up to rounding at every horizon (number of steps) with Ση > 0. Notation: w*
    latents, p prox points, g updates, η learning rates, ℓ the loss, F = T∘P and Φ = ½z² + r the potential of P.
    """

    pair: str
    steps: int
    """t, the number of steps."""
    entries: int
    """The number of latents."""
    identity: Check
    """The check that both sides of the identity of an `Account` agree, as they must for any pair."""
    proximality: Check
    """The check that p minimises Φ - ⟨·, w*⟩ over a grid of the domain of Φ."""
    forward: Check
    """The check that F(w*) = T(p), with the T of the last step."""
    gradient: Check
    """The check that g = T'(p) ⊙ ∇ℓ, and T' the derivative of T."""
    convexity: Check
    """The check that ⟨p_τ - w, ∇(ℓ∘T)(p_τ)⟩ - (ℓ∘T)(p_τ) + (ℓ∘T)(w) is not below 0."""
    account: Account | None = None
    """The terms of the identity at every comparison point; None for a heuristic, and for a P that falls."""
    excesses: Excess | None = None
    """The loss of each step over that of every comparison point; None without a loss."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """All five checks: identity, proximality, forward, gradient and convexity."""
        return self.identity, self.proximality, self.forward, self.gradient, self.convexity

    @property
    def holds(self) -> bool | None:
        """True if all five checks hold, False if one fails, None if none fails but one was not checked."""
        verdicts = [check.holds for check in self.checks]
        return False if False in verdicts else None if None in verdicts else True

    @property
    def reason(self) -> str:
        """Text on the first check that fails, else on the first that was not checked, else that all hold."""
        for verdict, word in ((False, "fails"), (None, "is not known")):
            for check in self.checks:
                if check.holds is verdict:
                    return f"{check.name} {word}: {check.detail}"
        return "the identity and all three conditions hold"

    @property
    def chosen(self) -> int:
        """The index of the comparison point w of `bound` and `excess`: the lowest in loss; 0 without `excesses`."""
        return 0 if self.excesses is None else self.excesses.lowest

    @cached_property
    def terms(self) -> dict[str, Tensor]:
        """The three terms whose sum is `bound`, (t,) each, by name; empty if `account` is None."""
        if self.account is None:
            return {}
        a, w = self.account, self.chosen
        start = a.distances[w, 0].expand(self.steps)
        sums = {"Δ₀(w)": start, "ΣΔ_τ(p_τ)": a.hops.cumsum(0), "drift of Φ": 0.0 - a.moved[w].cumsum(0)}
        return {name: total / a.travelled for name, total in sums.items()}

    @property
    def bound(self) -> Tensor | None:
        """The bound of the average excess loss at every horizon, (t,), valid if `holds`; None if `account` is."""
        return torch.stack(list(self.terms.values())).sum(0) if self.terms else None

    @cached_property
    def unused(self) -> dict[str, Tensor]:
        """The terms of bound - excess if g = T'(p) ⊙ ∇ℓ, (t,) each, by name; empty if `bound` or `excess` is None."""
        if self.account is None or self.excesses is None:
            return {}
        left = self.account.distances[self.chosen, 1:] / self.account.travelled
        return {"Δ_t(w)": left, "slack of convexity": self._average(self.excesses.slacks)}

    @property
    def excess(self) -> Tensor | None:
        """The average Σ η_τ[(ℓ∘T)(p_τ) - (ℓ∘T)(w)] / Ση by horizon, (t,), at w `chosen`; None without `excesses`."""
        return None if self.excesses is None else self._average(self.excesses.values)

    @property
    def persistent(self) -> str | None:
        """The name of the largest of `terms` over the second half of the run, by the means that `halves` returns.

        None if the mean of `bound` over the second half is at most 0 or at most half of that over the first. None also
        without a bound, after one step, or if every η of the second half is 0.
        """
        if self.bound is None or self.steps < 2:
            return None
        first, second = self.halves(self.bound)
        if isnan(second) or second <= max(0.0, 0.5 * first):
            return None
        return max(self.terms, key=lambda name: self.halves(self.terms[name])[1])

    def halves(self, average: Tensor) -> tuple[float, float]:
        """Return the means of a quantity over the steps of the first and of the second half of the run.

        `average`, (t,), is its mean up to each horizon, weighted by η, such as `bound` or `excess`. The means of the
        halves are weighted by η, too: they are not means of `average`. A mean is NaN if every η of its half is 0.
        """
        assert self.account is not None
        eta, average = (torch.nn.functional.pad(values, (1, 0)) for values in (self.account.travelled, average))
        sums, middle = torch.where(eta == 0, 0.0, average * eta), self.steps // 2
        first, rest = sums[middle] / eta[middle], eta[-1] - eta[middle]
        second = torch.where(rest == 0, nan, (sums[-1] - sums[middle]) / rest)  # at η = 0, Φ may still move with μ
        return float(first), float(second)

    def _average(self, values: Tensor) -> Tensor:
        assert self.account is not None
        a = self.account
        return (a.learning_rates * values[self.chosen]).cumsum(0) / a.travelled

    def __str__(self) -> str:
        lines = [f"{self.pair}: {self.steps} steps of {self.entries} latents", ""]
        if self.account is None:
            return "\n".join([*lines, *wrap(f"No account exists: {self.forward.reason}.", 80)])
        for name, check in zip(_CONDITIONS, self.checks, strict=True):
            lines += wrap(f"{name:16}{check}", 80, subsequent_indent=29 * " ")
        return "\n".join([*lines, "", *_balance(self), "", *wrap(_verdict(self), 80)])


def _balance(found: Certificate) -> list[str]:
    """Write the terms of the bound and of its unused part, over each half and over the whole run."""
    origins = ("the start", "the steps", "moving μ")
    rows = [(f"  {origin}: {name}/Ση", term) for origin, (name, term) in zip(origins, found.terms.items(), strict=True)]
    if found.bound is not None:
        rows.append(("bound, not owed here" if found.holds is False else "bound on the excess", found.bound))
    rows += [(f"  less {name}", term) for name, term in found.unused.items()]
    if found.excess is not None:
        rows.append(("excess over w", found.excess))
    size = max(float(values.abs().max()) for _, values in rows)
    lines = [f"{'averages over the':36}{'1st half':>12}{'2nd half':>12}{'whole run':>12}"]
    for name, values in rows:
        numbers = [
            0.0 if abs(number) < 1e-13 * size else number for number in (*found.halves(values), float(values[-1]))
        ]
        lines.append(f"{name:36}" + "".join(f"{'-' if isnan(n) else f'{n:.4g}':>12}" for n in numbers))
    return lines


def _verdict(found: Certificate) -> str:
    failing = [check.name for check in found.checks if check.holds is False]
    if failing == ["convexity"]:
        return (
            "The run does not inherit the guarantee on the average excess, as ℓ∘T is not convex. It is ProxConnect on "
            "ℓ∘T all the same, and what is left to say is about stationary points of ℓ∘T."
        )
    if failing:
        return "The run does not inherit the guarantee."
    verdict = "The run inherits the guarantee." if found.holds else "Whether it inherits the guarantee is not decided."
    assert found.bound is not None
    if found.steps < 2 or isnan(found.halves(found.bound)[1]):
        return verdict
    if found.persistent is None:
        return (
            f"{verdict} The bound is on its way to 0: over the second half of the run it is below half of what it was."
        )
    value = found.halves(found.terms[found.persistent])[1]
    return (
        f"{verdict} What keeps the bound from vanishing is {found.persistent}/Ση, {value:.3g} over the second half of "
        "the run."
    )


def certificate(
    trajectory: Trajectory, pair: str | AnyPair, loss: Function | None = None, at: Tensor | None = None
) -> Certificate:
    """Check whether a run inherits the guarantee of ProxConnect, and compute the bound of its average excess loss.

    A `Heuristic`, or a prox that falls somewhere, has no account: the certificate fails and says why.

    Args:
        trajectory: from a `Recorder` or `Trajectory.from_latents`.
        pair: the pair of the training, or its name in `PAIRS`.
        loss: ℓ of a flat weight vector (n,), a scalar tensor that autograd can differentiate. Without it the convexity
            inequality is not checked, and g only if the trajectory has gradients.
        at: comparison points w in the domain of Φ, (n,) or (m, n). By default: ±1 throughout, the signs of the last
            latents, the last prox point and that of the lowest loss, if they are in the domain.

    Raises:
        ValueError: the pair is unknown, a μ is outside its domain, `loss` is no differentiable scalar, raises, or is
            not finite at a step or NaN at a point, or `at` has another shape or points outside the domain of Φ.
        ProbeError: a probe of P, T or a heuristic gives no finite float64 values.
        TooRoughError: a probed P or T has more jumps and kinks than can be told apart.
        TypeError: an argument has another type.
    """
    pair = resolve(pair)
    require_type(
        trajectory, Trajectory,
        "certificate takes a Trajectory first, of Recorder.trajectories() or Trajectory.from_latents(...)",
    )  # fmt: skip
    if loss is not None:
        require_callable(loss, "loss must be a callable of a flat weight vector (n,)")
    if pair.sharpness is not None:
        for mu in (float(trajectory.mu.min()), float(trajectory.mu.max())):
            pair.sharpness.require(mu, f"pair {pair.name!r}")
    last = float(trajectory.mu[-2])
    if not isinstance(pair, Pair):
        return _refused(trajectory, pair, _no_decomposition(pair, last))
    try:
        potentials = Potentials(pair.prox, trajectory.mu, float(trajectory.latents.abs().max()))
    except NotProximalError as error:
        return _refused(trajectory, pair, str(error))
    p = potentials.prox_points(trajectory.latents)
    composite = Composite(p[:-1], pair.transform, last, loss)
    points = _usual_points(trajectory, potentials, p, composite) if at is None else _given_points(at, potentials, p)
    account = Account(trajectory, potentials, p, points)
    excess = composite.against(points)
    return Certificate(
        pair.name, trajectory.steps, trajectory.entries,
        checks.identity(account, trajectory.resolution), checks.proximality(trajectory.latents, potentials, p),
        checks.forward(trajectory, pair, composite), checks.gradient(trajectory, pair, composite),
        checks.convexity(excess), account, excess,
    )  # fmt: skip


def _usual_points(trajectory: Trajectory, potentials: Potentials, p: Tensor, composite: Composite) -> Tensor:
    """Return the usual comparison points in the domain of every Φ, (m, n)."""
    ones = torch.ones_like(p[0])
    rows = [ones, -ones, torch.copysign(ones, trajectory.latents[-1] + 0.0), p[-1]]
    rows += [] if composite.values is None else [p[int(composite.values.argmin())]]
    candidates = torch.stack(rows)
    usual: Tensor = torch.unique(candidates[potentials.at_points(candidates).isfinite().all(1)], dim=0)
    return usual if len(usual) else p[-1:]


def _given_points(at: Tensor, potentials: Potentials, p: Tensor) -> Tensor:
    require_type(at, Tensor, "at takes a tensor of shape (n,) or (m, n)")
    points: Tensor = torch.atleast_2d(at.detach().to("cpu", torch.float64))
    if points.shape[1:] != p.shape[1:]:
        raise ValueError(f"at must have shape (n,) or (m, n) with n = {p.shape[1]}; got {tuple(at.shape)}")
    outside = ~potentials.at_points(points).isfinite().all(1)
    if bool(outside.any()):
        raise ValueError(
            f"point {int(outside.nonzero()[0])} of at is outside the domain of the potential Φ, where it is infinite: "
            "take one that P reaches, as the last prox point"
        )
    return points


def _no_decomposition(pair: Heuristic, mu: float) -> str:
    verdict = decompose(pair, mu=None if pair.sharpness is None else mu)
    at = "" if verdict.mu is None else f" at μ = {verdict.mu:g}"
    if verdict.legitimate:
        return (
            f"{pair.name!r} is legitimate{at}, but states neither P nor T: certify the Pair that does, as "
            "theory.synthesize(transform, prox, name) makes it"
        )
    word = "no P and T" if verdict.legitimate is False else "it could not be told whether any P and T"
    where = f" ({said})" if (said := place(verdict)) else ""
    return (
        f"{word} have F = T∘P and B = T'∘P for {pair.name!r}{at}. {verdict.reason}{where}. "
        "theory.correct makes a pair of its B that has an account"
    )


def _refused(trajectory: Trajectory, pair: AnyPair, reason: str) -> Certificate:
    none, proximal, gradient, convexity = (
        Check(name, None, nan, "no account") for name in ("identity", "proximality", "gradient", "convexity")
    )
    refusal = Check("forward", False, nan, reason)
    return Certificate(pair.name, trajectory.steps, trajectory.entries, none, proximal, refusal, gradient, convexity)
