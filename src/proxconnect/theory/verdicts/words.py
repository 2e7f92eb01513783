"""The sentences that describe a verdict."""

from typing import TYPE_CHECKING

from proxconnect.theory.verdicts.curves import ProxCurve
from proxconnect.theory.verdicts.rules import glides
from proxconnect.theory.verdicts.sampling import runs

if TYPE_CHECKING:
    from proxconnect.theory.verdicts.decomposition import Verdict

ANSWERS = {True: "legitimate", False: "not legitimate", None: "cannot tell"}
"""The words for each value of `Verdict.legitimate`."""


def answer(verdict: "Verdict") -> str:
    """Say in a few words whether the pair of a verdict is legitimate, as "legitimate by convention"."""
    if verdict.declared is False and verdict.legitimate:
        return "legitimate, but not as declared"
    return ANSWERS[verdict.legitimate] + (" by convention" if verdict.by_convention else "")


def place(verdict: "Verdict") -> str:
    """Say for which x the verdict is decided, as "at x = 1" or "for x > 2"; empty if no x decides."""
    if verdict.interval is None:
        return ""
    (low, high), (first, last) = verdict.interval, verdict.domain
    if low == high:
        return f"at x = {low:.6g}"
    if (low, high) == (first, last):
        return "on all of the line"
    if high == last:
        return f"for x > {low:.4g}"
    return f"for x < {high:.4g}" if low == first else f"for {low:.4g} < x < {high:.4g}"


def headline(verdict: "Verdict") -> str:
    """Say on which loss training with a legitimate pair (PC++) descends, or which rule another pair breaks."""
    return _descent(verdict, verdict.prox) if verdict.prox is not None else verdict.reason.partition(": ")[0]


def consequence(verdict: "Verdict") -> str:
    """Say on which loss training with a legitimate pair descends, and where P jumps and is flat; else ""."""
    curve = verdict.prox
    if curve is None:
        return ""
    descent = _descent(verdict, curve)
    if _is_identity(curve):
        return descent
    behaviour = "; ".join([*_jumps(curve), *_plateaus(curve)]) or "P rises without jumps or plateaus"
    return f"{descent}; {behaviour}"


def _is_identity(curve: ProxCurve) -> bool:
    x = curve.mesh.x
    return bool(((curve.p - x).abs() <= 1e-9 * x.abs().clamp(min=1)).all())


def _descent(verdict: "Verdict", curve: ProxCurve) -> str:
    x = curve.mesh.x
    forward = verdict.forward(x.reshape(-1)).detach().reshape(x.shape)
    is_plain = bool(((forward - curve.p).abs() <= 1e-9 * x.abs().clamp(min=1))[curve.mesh.smooth].all())
    if _is_identity(curve):
        return f"P(x) = x{' = T(x): gradient descent on ℓ' if is_plain else ', T = F: gradient descent on ℓ∘F'}"
    return "T(z) = z, P = F: ProxConnect on ℓ" if is_plain else "ProxConnect on ℓ∘T"


def _jumps(curve: ProxCurve) -> list[str]:
    mesh, p = curve.mesh, curve.p
    found = [(float(mesh.low[a]), float(p[a, 0]), float(p[b, -1])) for a, b in runs(~mesh.smooth)]
    real = [jump for jump in found if jump[2] - jump[1] > 1e-9]
    if len(real) > 2:
        return [f"P jumps at {len(real)} places from x = {real[0][0]:.4g} to {real[-1][0]:.4g}"]
    return [f"P jumps from {_round(a)} to {_round(b)} at x = {_round(x)}" for x, a, b in real]


def _plateaus(curve: ProxCurve) -> list[str]:
    """Describe each stretch on which P stays, but not the tails of a P that glides into its limit, as tanh does."""
    mesh = curve.mesh
    flat = mesh.smooth & (curve.p.amax(1) - curve.p.amin(1) <= 1e-12)
    stretches = [
        (low, high, float(curve.p[a, 0]))
        for a, b in runs(flat)
        if (high := float(mesh.high[b])) - (low := float(mesh.low[a])) > 1e-6
        and not glides(curve, low, high, mesh.ends, (1e-8, 1e-4))
    ]
    if len(stretches) > 2:
        first, last = stretches[0][0], stretches[-1][1]
        return [f"P is flat on {len(stretches)} stretches from x = {first:.4g} to {last:.4g}"]
    return [f"P stays at {_round(value)} {_stretch(curve, low, high)}" for low, high, value in stretches]


def _stretch(curve: ProxCurve, low: float, high: float) -> str:
    first, last = curve.mesh.ends
    if low == first:
        return "everywhere" if high == last else f"up to x = {_round(high)}"
    return f"from x = {_round(low)} on" if high == last else f"from x = {_round(low)} to {_round(high)}"


def _round(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"
