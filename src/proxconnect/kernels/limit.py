"""The environment variable that limits which instructions the kernels use."""

import os

VARIABLE = "PROXCONNECT_INSTRUCTION_SET"
"""Names the best instruction set that the kernels may use, as docs/kernels.md says."""


def allowed(sets: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of a machine's instruction sets, the best last, that the environment allows.

    Raises:
        ValueError: the environment names a set that is not among them.
    """
    best = os.environ.get(VARIABLE)
    if not best:
        return sets
    if best not in sets:
        raise ValueError(
            f"{VARIABLE} is {best!r}, and this machine runs {', '.join(sets)}: set it to one of these, or unset it"
        )
    return sets[: sets.index(best) + 1]
