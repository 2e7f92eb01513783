"""What the theory says of the pairs of the catalogue."""

from collections.abc import Sequence
from functools import cache

from proxconnect.cli.subject import Correction, corrected, named
from proxconnect.pairs import PAIRS
from proxconnect.theory import Verdict
from proxconnect.theory.verdicts.decomposition import DOMAIN


@cache
def verdicts(pair: str) -> Sequence[Verdict]:
    """From soft to sharp, at a few μ; one for a pair that does not depend on μ."""
    asked = named(pair)
    return [asked.verdict(mu, DOMAIN) for mu in asked.mus()]


def is_legitimate(pair: str) -> bool:
    """Whether it is so at each μ."""
    return all(verdict.legitimate for verdict in verdicts(pair))


@cache
def correction(pair: str) -> Correction | None:
    """The pair that keeps B of one that is not legitimate; None where there is none, or no need for one."""
    if is_legitimate(pair):
        return None
    try:
        return corrected(named(pair), verdicts(pair)[-1].mu)
    except ValueError:
        return None


def corrected_by(pair: str) -> list[str]:
    """The pairs of the catalogue whose correction this one is."""
    return [name for name in PAIRS if (found := correction(name)) and found.in_catalogue and found.name == pair]
