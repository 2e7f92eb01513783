"""Numbers for JSON."""

import math


def finite(number: float) -> float | None:
    """Return the number, or None for NaN and infinity, which JSON lacks."""
    return number if math.isfinite(number) else None
