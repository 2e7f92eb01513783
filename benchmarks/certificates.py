"""What certificates say: whose average excess loss vanishes, whose levels off and why, and who has no account at all.

Full-batch descent by η_t = rate/√t in float64, by pairs without a scale at μ = 2, and by binaryrelax with the sharpness
of the theory, μ_t = 1 + Σ η (μ↑), on two convex quadratics and on the logistic regression of a real data set
(scikit-learn's breast cancer, standardised, ridge 0.02). Their minima are inside (-1, 1)ⁿ, where the excess is 0; for
pairs whose weights are ±1 it is 0 at the best signs that single flips find.

`average` is Σ η_t(ℓ(w_t) - ℓ(w))/Ση over the whole run, and `slope` its slope on logarithmic axes over the last decade:
-0.5 for 1/√t, 0 where it levels off. What it levels off at is the average over the second half alone, which the
certificate accounts for: it is ΣΔ/Ση + rest - slack, the last being that of convexity and the rest the drift of Φ less
Δ_t(w). Prints tables and writes the picture.

Run: OMP_NUM_THREADS=1 python benchmarks/certificates.py [--steps 5000] [--picture docs/pictures/certificates.png]
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from torch.nn.functional import softplus

from proxconnect import PAIRS, Pair
from proxconnect.inspection import plots
from proxconnect.theory.certificates.certificate import Certificate, certificate
from proxconnect.theory.certificates.trajectory import Trajectory

MU = 2.0
BINARY = ("bc", "bnn+", "ede", "poly")
"""Pairs whose weights are ±1."""
RUNS = ("md", "parq", "bc", "pc", "binaryrelax", "binaryrelax, μ↑", "bnn++", "bnn+", "ede", "poly")


class Problem(NamedTuple):
    """A convex loss of a weight vector, its gradient, and the step size at t = 1."""

    loss: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    n: int
    rate: float


class Outcome(NamedTuple):
    """One run: its certificate, its average excess at every horizon, and the loss over its steps."""

    certificate: Certificate
    excess: Tensor
    losses: Tensor


def distance() -> Problem:
    return Problem(lambda w: 0.5 * (w - 0.1).square().sum(), lambda w: w - 0.1, 1, 0.5)


def quadratic(n: int = 20) -> Problem:
    random = torch.Generator().manual_seed(0)
    root = torch.randn(n, n, dtype=torch.float64, generator=random)
    least = 1.6 * torch.rand(n, dtype=torch.float64, generator=random) - 0.8
    a = root.T @ root / n
    return Problem(lambda w: 0.5 * (w - least) @ a @ (w - least), lambda w: a @ (w - least), n, 0.3)


def logistic_regression() -> Problem:
    data = load_breast_cancer()
    x, y = torch.from_numpy(data.data), 2.0 * torch.from_numpy(data.target) - 1
    rows, ridge = y[:, None] * (x - x.mean(0)) / x.std(0), 0.02

    def loss(w: Tensor) -> Tensor:
        return softplus(-(rows @ w)).mean() + ridge / 2 * w.square().sum()

    def gradient(w: Tensor) -> Tensor:
        return ridge * w - rows.T @ torch.sigmoid(-(rows @ w)) / len(rows)

    return Problem(loss, gradient, rows.shape[1], 0.5)


PROBLEMS = {
    "½(w - 0.1)²": distance,
    "quadratic, 20 weights": quadratic,
    "logistic regression, 30 weights": logistic_regression,
}


def best_in_box(problem: Problem) -> Tensor:
    """The minimiser on [-1, 1]ⁿ."""
    found = minimize(
        lambda w: float(problem.loss(torch.from_numpy(w))), [0.0] * problem.n, bounds=[(-1, 1)] * problem.n,
        jac=lambda w: problem.gradient(torch.from_numpy(w)).numpy(), method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 10_000},
    )  # fmt: skip
    return torch.from_numpy(found.x)


def source(pair: Pair, best: Tensor) -> Tensor:
    """The w with T(w) = best, by bisection where T rises around 0."""
    low, high = torch.full_like(best, -2 / MU), torch.full_like(best, 2 / MU)
    for _ in range(60):
        middle = (low + high) / 2
        short = pair.transform(middle, MU) < best
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return high


def best_signs(problem: Problem, start: Tensor) -> Tensor:
    """Signs that no single flip improves."""
    signs = torch.copysign(torch.ones_like(start), start + 0.0)
    while True:
        flipped = signs * (1 - 2 * torch.eye(problem.n, dtype=signs.dtype))
        losses = torch.stack([problem.loss(row) for row in flipped])
        if float(losses.min()) >= float(problem.loss(signs)):
            return signs
        signs = flipped[losses.argmin()]


def descend(problem: Problem, name: str, steps: int) -> Outcome:
    pair = PAIRS[name.partition(",")[0]]
    rates = [problem.rate / math.sqrt(t) for t in range(1, steps + 1)]
    mus = [1 + sum(rates[:t]) if "," in name else MU for t in range(steps + 1)]
    latent = 0.05 + 0.1 * torch.randn(problem.n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    latents, gradients, losses = [latent], [], []
    for rate, mu in zip(rates, mus, strict=False):
        weight = pair.forward(latent, mu)
        gradients.append(problem.gradient(weight))
        losses.append(problem.loss(weight))
        latent = latent - rate * pair.backward(latent, mu) * gradients[-1]
        latents.append(latent)
    box = best_in_box(problem)
    best = best_signs(problem, box) if pair.name in BINARY else box
    run = Trajectory.from_latents(latents, rates, mus, gradients=gradients)
    found = certificate(run, pair, problem.loss, at=source(pair, best) if pair.name == "bnn++" else best)
    eta = run.learning_rates
    excess = (eta * (torch.stack(losses) - problem.loss(best))).cumsum(0) / eta.cumsum(0)
    return Outcome(found, excess, torch.stack(losses))


def slope(excess: Tensor) -> float:
    """d log(excess)/d log t over the last decade; NaN where it is not positive."""
    late, early = float(excess[-1]), float(excess[max(len(excess) // 10, 1) - 1])
    return math.log10(late / early) if min(late, early) > 0 else math.nan


def report(title: str, outcomes: dict[str, Outcome]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for heading in ("pair", "holds", "average", "slope", "2nd half", "ΣΔ/Ση", "rest", "slack"):
        table.add_column(heading, justify="left" if heading in ("pair", "holds") else "right")
    for name, (found, excess, _) in outcomes.items():
        holds = {True: "yes", False: "no", None: "?"}[found.holds]
        seen = [f"{float(excess[-1]):.2g}", f"{slope(excess):.2f}"]
        if found.account is None:
            table.add_row(name, holds, *seen, "", "none")
            continue
        rest = found.terms["drift of Φ"] - found.unused["Δ_t(w)"]
        predicted = (found.terms["ΣΔ_τ(p_τ)"], rest, found.unused["slack of convexity"])
        halves = [found.halves(values)[1] for values in (excess, *predicted)]
        table.add_row(name, holds, *seen, *(f"{0.0 if abs(number) < 1e-12 else number:.2g}" for number in halves))
    return table


def summary(outcomes: dict[str, Outcome]) -> str:
    """Which bounds vanish, and what keeps up the others."""
    by_term: dict[str, list[str]] = {}
    for name, (found, _, _) in outcomes.items():
        kept = f"is kept up by {found.persistent}" if found.persistent else "is on its way to 0"
        by_term.setdefault("does not exist" if found.account is None else kept, []).append(name)
    return "\n".join(f"The bound {how}: {'; '.join(names)}." for how, names in by_term.items())


def descent(outcome: Outcome) -> str:
    """Whether bnn++, where P is the identity, goes down on ℓ∘T."""
    losses = outcome.losses
    rises = int((losses.diff() > 1e-15).sum())
    return (
        f"bnn++ takes ℓ∘T from {float(losses[0]):.4g} to {float(losses[-1]):.4g}, and it rises in {rises} of "
        f"{len(losses) - 1} steps."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/certificates.png"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console, panels = Console(width=80), {}
    for title, make in PROBLEMS.items():
        problem = make()
        with console.status(title):
            outcomes = {name: descend(problem, name, arguments.steps) for name in RUNS}
        console.print(report(f"{title}, {arguments.steps} steps", outcomes))
        console.print(summary(outcomes), descent(outcomes["bnn++"]), "", sep="\n", highlight=False)
        panels[title] = {
            name: (excess, found.bound if found.convexity.holds else None)
            for name, (found, excess, _) in outcomes.items()
        }
    plots.save(plots.plot_excesses(panels), arguments.picture)
    console.print(f"wrote {arguments.picture}")


if __name__ == "__main__":
    main()
