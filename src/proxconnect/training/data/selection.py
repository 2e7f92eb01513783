"""Split the training pictures by class, always in the same way."""

import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.hashing import Purpose, hashed, uniform


def by_class(labels: Tensor, seed: int) -> Tensor:
    """Return an order of all pictures, int64 (N,), of which every stretch holds each class in its share, to within two.

    A prefix is within one, so a larger selection holds every smaller one. The k-th picture of a class of n, in a random
    order, stands at (k + u) / n, with u in [0, 1) for each class.
    """
    positions = torch.empty(len(labels), dtype=torch.float64)
    counts = labels.bincount().tolist()
    for label, members in enumerate(labels.argsort(stable=True).split(counts)):
        members = members[hashed(Purpose.SPLIT, seed, members).argsort()]
        offset = uniform(Purpose.SPLIT, seed, -1 - label)
        positions[members] = (torch.arange(len(members)) + offset) / max(len(members), 1)
    return positions.argsort(stable=True)


def select(labels: Tensor, validation: int, subset: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of the pictures to train on and of those held out, int64, each ascending.

    `validation` pictures are held out, and `subset` of the others are used, all if None. DatasetError if there are too
    few.
    """
    left = len(labels) - validation
    if validation < 0 or left < 1:
        raise DatasetError(f"validation={validation} is not possible: the training set has {len(labels)} pictures")
    if subset is not None and not 1 <= subset <= left:
        held_out = f", of which {validation} are held out" if validation else ""
        raise DatasetError(f"subset={subset} is not possible: the training set has {len(labels)} pictures{held_out}")
    order = by_class(labels, seed)
    last = len(labels) if subset is None else validation + subset
    return order[validation:last].sort().values, order[:validation].sort().values
