"""Numbers as JSON has them."""

import math


def finite(number: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON has not."""
    return number if math.isfinite(number) else None
