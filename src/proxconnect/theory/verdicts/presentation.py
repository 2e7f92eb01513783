"""How verdicts are shown: in words and as pictures."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proxconnect.inspection.plots.figures import REACH, SHADES, cross_at_zero, new_figure
from proxconnect.theory.functions.mesh import bisected, glides
from proxconnect.theory.verdicts.curves import ProxCurve
from proxconnect.theory.verdicts.sampling import runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from proxconnect.theory.verdicts.decomposition import Verdict

ANSWERS = {True: "legitimate", False: "not legitimate", None: "cannot tell"}
"""The words for each value of `Verdict.legitimate`."""

_PART_COLOUR = "#252525"


def answer(verdict: "Verdict") -> str:
    """Say in a few words whether the pair of a verdict is legitimate, as "legitimate by convention"."""
    if verdict.declared is False and verdict.legitimate:
        return "legitimate, but not as declared"
    return ANSWERS[verdict.legitimate] + (" by convention" if verdict.by_convention else "")


def place(verdict: "Verdict") -> str:
    """Say for which x the verdict is decided, as "at x = 1" or "for x > 2"; empty without `verdict.interval`."""
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
    """Say on which loss training with a legitimate pair descends; for others, return the reason up to a colon."""
    return _descent(verdict, verdict.prox) if verdict.prox is not None else verdict.reason.partition(": ")[0]


def consequence(verdict: "Verdict") -> str:
    """Say on which loss training with a legitimate pair descends, and where a P ≠ x jumps and is flat; else ""."""
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
    found = [(*mesh.span(a, b), float(curve.p[a, 0])) for a, b in runs(flat)]
    stretches = [
        (low, high, value)
        for low, high, value in found
        if high - low > 1e-6 and not glides(curve, low, high, mesh.ends, (1e-8, 1e-4))
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


def plot_verdict(verdict: "Verdict") -> "Figure":
    """Draw F and B, and below them P(x), T(z) and r(z) of a legitimate pair, and return the figure.

    The x that decide the verdict are shaded, a single one is dashed. At a jump the line is interrupted. T and r are
    dotted for the z that P jumps over, where only a convention fixes them. If the pair is surely not legitimate, ∫B,
    the F that would suit its B, is dashed beside F. Needs the extra `plots`.
    """
    if not hasattr(verdict, "legitimate"):
        raise TypeError(f"plot_verdict takes a Verdict, as decompose(...) returns; got {type(verdict).__name__}")
    figure = new_figure(7.2, 3.6 if verdict.prox is None else 5.6)
    at = "" if verdict.mu is None else f" at μ = {verdict.mu:g}"
    why = textwrap.fill(f"{verdict.reason}{f' ({where})' if (where := place(verdict)) else ''}.", 118)
    colour = {True: "#1b7837", False: "#b2182b", None: "#8c6d31"}[verdict.legitimate]
    figure.suptitle(f"{verdict.name}{at}: {answer(verdict)}", color=colour)
    figure.supxlabel(why, fontsize=8.5)
    rows = figure.subfigures(1 if verdict.prox is None else 2, 1, squeeze=False)[:, 0]
    x = _window(verdict)
    forward, backward = rows[0].subplots(1, 2)
    for axes, function, part in ((forward, verdict.forward, "F"), (backward, verdict.backward, "B")):
        axes.plot(*_with_gaps(function, x), color=SHADES[part][2], linewidth=1.6)
        axes.set(title=f"{part}(x)", xlabel="x", xlim=(float(x[0]), float(x[-1])))
        if verdict.interval is not None:
            low, high = verdict.interval
            if low == high:
                axes.axvline(low, color=colour, linestyle="--", linewidth=1.0)
            else:
                axes.axvspan(low, high, color=colour, alpha=0.13, linewidth=0)
    if verdict.legitimate is False:
        gained = torch.cumulative_trapezoid(verdict.backward(x).detach(), x)
        whole = torch.nn.functional.pad(gained, (1, 0))
        whole = whole - whole[int(x.abs().argmin())]  # from 0, or from the end of x that is nearest to 0
        forward.plot(x, whole, "--", color="#777777", linewidth=1.2, label="∫B")
        forward.legend(frameon=False, fontsize=8, loc="upper left")
    if verdict.prox is not None:
        _draw_parts(rows[1].subplots(1, 3), verdict, verdict.prox, x)
    for axes in figure.axes:
        axes.margins(y=0.12)
        cross_at_zero(axes)
        axes.title.set_fontsize(10)
    return figure


def _window(verdict: "Verdict") -> Tensor:
    """Return points x around 0, as far as the place that decides and the jumps and kinks of P, within the domain."""
    places = [0.0 if low <= 0 <= high else min(abs(low), abs(high)) for low, high in [verdict.interval or (0.0, 0.0)]]
    if verdict.prox is not None:
        mesh = verdict.prox.mesh
        places += mesh.high[~mesh.smooth].abs().tolist()
    reach = max(REACH, 1.3 * max(places))
    low, high = max(verdict.domain[0], -reach), min(verdict.domain[1], reach)
    return torch.linspace(*((low, high) if low < high else verdict.domain), 2001, dtype=torch.float64)


def _with_gaps(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return points and values of a function with both sides of each jump, and a NaN between, which breaks the line."""

    def value(points: Tensor) -> Tensor:
        return function(points).detach()

    y = value(x)
    steps = y.diff().abs()
    seen = steps > 0.002 * (y.amax() - y.amin())
    below, above = y[:-1][seen], y[1:][seen]
    low, high = bisected(x[:-1][seen], x[1:][seen], lambda m: (value(m) - below).abs() < (above - value(m)).abs())
    jumps = (value(high) - value(low)).abs() > 0.5 * steps[seen]  # a slope loses most of its step, however steep
    low, high = low[jumps], high[jumps]
    points = torch.cat([x, low, low, high])
    values = torch.cat([y, value(low), torch.full_like(low, torch.nan), value(high)])
    order = points.argsort(stable=True)
    return points[order], values[order]


def _draw_parts(cells: Sequence["Axes"], verdict: "Verdict", prox: ProxCurve, x: Tensor) -> None:
    """Draw P over x, and T and r over the range of P over x, up to the ends of the range."""
    assert verdict.transform is not None
    cells[0].plot(*_with_gaps(prox, x), color=_PART_COLOUR, linewidth=1.6)
    cells[0].set(title="P(x)", xlabel="x", xlim=(float(x[0]), float(x[-1])))
    over = prox(x)
    low = float(prox.p[0, 0] if prox.ends[0] else over[0])
    high = float(prox.p[-1, -1] if prox.ends[1] else over[-1])
    gaps = prox.p[~prox.mesh.smooth].flatten().clamp(low, high)
    z = torch.cat([torch.linspace(low, high, 2001, dtype=torch.float64), gaps]).unique()  # with both sides of its gaps
    is_reached = ~prox.preimage(z).in_gap
    beside = torch.nn.functional.pad(is_reached, (1, 1))
    alone = is_reached & ~(beside[:-2] | beside[2:])
    where = {(True, True): ", +∞ beyond", (True, False): ", +∞ below", (False, True): ", +∞ above"}.get(prox.ends, "")
    for axes, function, title in (
        (cells[1], verdict.transform, "T(z)"),
        (cells[2], prox.regularizer, f"r(z){where}"),
    ):
        values = function(z).detach()
        axes.plot(z, values, ":", color="#777777", linewidth=1.2)
        axes.plot(z, torch.where(is_reached, values, torch.nan), color=_PART_COLOUR, linewidth=1.6)
        axes.plot(z[alone], values[alone], "o", color=_PART_COLOUR, markersize=4)
        axes.set(title=title, xlabel="z")
    if bool((values.abs() < 1e-9).all()):
        cells[2].set_ylim(-1.0, 1.0)  # r = 0: only its rounding would show
