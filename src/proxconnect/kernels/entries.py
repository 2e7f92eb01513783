"""How many entries a row or a patch may have, as `csrc/proxconnect.h` bounds them, so that 32 bits hold their sum."""

SIGNS = 2**31 - 1
"""Of signs times signs."""
ROUNDED = 2**24
"""Of inputs rounded to 8 bits, times signs."""
INT8 = 2**17
"""Of inputs rounded to 8 bits, times weights of 8 bits."""
FIXED_POINT = 2**15
"""Of floats in three bytes each."""


def require_entries(entries: int, most: int | None) -> None:
    """Raise ValueError unless a row or a patch has entries, at most `most`; None where floats are summed."""
    if entries > 0 and (most is None or entries <= most):
        return
    bound = "" if most is None else f" <= {most}, so that 32 bits hold their sum"
    raise ValueError(f"a row (…, in) or a patch must have entries, 0 < in{bound}; got {entries}")
