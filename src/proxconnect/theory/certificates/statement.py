"""The printed form of a certificate, in 80 columns."""

import math
from textwrap import wrap
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from proxconnect.theory.certificates.certificate import Certificate

_CONDITIONS = ("  identity", "1 Δ(w) ≥ 0", "2 F(w*) = T(p)", "  g = T'(p)⊙∇ℓ", "3 convexity")
_ORIGINS = {"Δ₀(w)": "the start", "ΣΔ_τ(p_τ)": "the steps", "drift of Φ": "moving μ"}
"""The origin of each term of the bound."""


def statement(found: "Certificate") -> str:
    """Write the checks, the bound term by term, its unused part, and the verdict."""
    lines = [f"{found.pair}: {found.steps} steps of {found.entries} latents", ""]
    if found.account is None:
        return "\n".join([*lines, *wrap(f"No account exists: {found.forward.reason}.", 80)])
    for name, check in zip(_CONDITIONS, found.checks, strict=True):
        lines += wrap(f"{name:16}{check}", 80, subsequent_indent=29 * " ")
    return "\n".join([*lines, "", *_balance(found), "", *wrap(_verdict(found), 80)])


def _balance(found: "Certificate") -> list[str]:
    """Write the terms of the bound and of its unused part, over each half and over the whole run."""
    rows: list[tuple[str, Tensor]] = [(f"  {_ORIGINS[name]}: {name}/Ση", term) for name, term in found.terms.items()]
    if found.bound is not None:
        rows.append(("bound, not owed here" if found.holds is False else "bound on the excess", found.bound))
    rows += [(f"  less {name}", term) for name, term in found.unused.items()]
    if found.excess is not None:
        rows.append(("excess over w", found.excess))
    size = max(float(values.abs().max()) for _, values in rows)
    lines = [f"{'averages over the':36}{'1st half':>12}{'2nd half':>12}{'whole run':>12}"]
    for name, values in rows:
        numbers = (*found.halves(values), float(values[-1]))
        lines.append(f"{name:36}" + "".join(f"{_shown(number, size):>12}" for number in numbers))
    return lines


def _shown(number: float, size: float) -> str:
    """Write a number; one below the rounding of others of that size is 0."""
    if math.isnan(number):
        return "-"
    return f"{0.0 if abs(number) < 1e-13 * size else number:.4g}"


def _verdict(found: "Certificate") -> str:
    """Say whether the run inherits the guarantee, and which term keeps the bound up."""
    failing = [check.name for check in found.checks if check.holds is False]
    if failing == ["convexity"]:
        return (
            "The run does not inherit the guarantee on the average excess, as ℓ∘T is not convex. It is ProxConnect on "
            "ℓ∘T all the same, and what is left to say is about stationary points of ℓ∘T."
        )
    if failing:
        return "The run does not inherit the guarantee."
    verdict = "The run inherits the guarantee." if found.holds else "Whether it inherits the guarantee is not decided."
    if found.steps < 2:
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
