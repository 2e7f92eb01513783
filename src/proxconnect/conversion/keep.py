"""Which eligible layers stay float on request."""

from collections.abc import Callable, Iterable

from torch import nn

from proxconnect.conversion.eligibility import WeightLayer
from proxconnect.conversion.patterns import first_match, require_match

Keep = str | Iterable[str] | Callable[[str, nn.Module], bool] | None
"""What stays float: "edges", globs on names (among which "edges" stands for the edges), a callable of name and module
that answers True, or nothing (None)."""

EDGES = "edges"


def kept(keep: Keep, layers: list[WeightLayer], edges: Callable[[], dict[str, str]]) -> dict[str, str]:
    """The layers that `keep` leaves float, with the reason, by name; `edges` is asked only where `keep` names them.

    ValueError for a pattern that fits no layer, TypeError where `keep` is none of the above.
    """
    if keep is None:
        return {}
    if callable(keep):
        chosen = [layer for layer in layers if layer.eligible and any(keep(name, layer.module) for name in layer.names)]
        return dict.fromkeys((layer.name for layer in chosen), "keep: the callable chose it")
    if not isinstance(keep, Iterable):
        raise TypeError(f"keep takes 'edges', globs on layer names, a callable or None; got {keep!r}")
    words = [keep] if isinstance(keep, str) else list(keep)
    patterns = [word for word in words if word != EDGES]
    for pattern in patterns:
        require_match(pattern, layers, "keep", words=(EDGES,))
    reasons = edges() if EDGES in words else {}
    for layer in layers:
        matched = first_match(layer, patterns)
        if matched is not None:
            reasons.setdefault(layer.name, f"keep: {matched!r}")
    return reasons
