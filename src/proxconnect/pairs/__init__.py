"""Forward-backward pairs: their parts, the pairs, and the catalogue by name."""

from proxconnect.pairs import prox, transform
from proxconnect.pairs.catalogue import PAIRS, SURROGATES, resolve
from proxconnect.pairs.pair import AnyPair, ForwardBackward, Heuristic, Pair
from proxconnect.pairs.part import Sharpness
from proxconnect.pairs.prox import Prox
from proxconnect.pairs.transform import Transform

__all__ = [
    "PAIRS",
    "SURROGATES",
    "AnyPair",
    "ForwardBackward",
    "Heuristic",
    "Pair",
    "Prox",
    "Sharpness",
    "Transform",
    "prox",
    "resolve",
    "transform",
]
