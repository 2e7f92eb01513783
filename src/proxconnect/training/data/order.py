"""The pictures that are used and held out, and those of each batch, as pure functions of seed, epoch and batch."""

import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.hashing import Purpose, hashed, uniform

WINDOW = 2048
"""About the number of pictures in use at a time if they lie in blocks of a disk."""


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
    """Return the numbers of `subset` pictures to train on (None: all) and of `validation` others, both ascending.

    DatasetError if there are too few.
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


class Shuffled:
    """Batches of `batch_size` of the pictures `chosen`, in an order that `seed` and the epoch decide.

    Each of `world` ranks has its part of joint batches of `batch_size * world`. The rest of an epoch is dropped.
    `blocks`, as in `Pictures`, come in random order, and pictures are shuffled within windows of several blocks, so
    that each block is read once.
    """

    def __init__(
        self, chosen: Tensor, batch_size: int, seed: int, rank: int = 0, world: int = 1, blocks: Tensor | None = None
    ) -> None:
        self._chosen, self._joint, self._seed = chosen, batch_size * world, seed
        self._mine = share(self._joint, rank, world)
        self._blocks = blocks
        self._latest: tuple[int, Tensor] | None = None
        if not len(self):
            ranks = f" on each of {world} processes" if world > 1 else ""
            raise DatasetError(
                f"there are {len(chosen)} pictures to train on, less than one batch of {batch_size}{ranks}: "
                f"lower batch_size to {len(chosen) // world} or less"
            )

    def __len__(self) -> int:
        return len(self._chosen) // self._joint

    def rows(self, epoch: int, batch: int) -> Tensor:
        """Return the numbers of the pictures in this rank's part of a batch, int64 (batch_size,)."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self._shuffled(epoch)
        return self._latest[1][batch * self._joint : (batch + 1) * self._joint][self._mine]

    def _shuffled(self, epoch: int) -> Tensor:
        order = self._chosen[hashed(Purpose.ORDER, self._seed, epoch, self._chosen).argsort()]
        if self._blocks is None:
            return order
        count = int(self._blocks.max()) + 1
        places = hashed(Purpose.BLOCKS, self._seed, epoch, torch.arange(count)).argsort().argsort()
        windows = places[self._blocks[order]] // blocks_in_window(self._blocks)
        return order[windows.argsort(stable=True)]


class InTurn:
    """The pictures `chosen` once each, in their order, in as few batches of at most `batch_size` as possible.

    Each of `world` ranks has as many batches, since ranks wait for each other, and sizes differ by at most one.
    """

    def __init__(self, chosen: Tensor, batch_size: int, rank: int = 0, world: int = 1) -> None:
        steps = -(-len(chosen) // (batch_size * world))
        if len(chosen) < max(1, steps * world):
            raise DatasetError(f"there are {len(chosen)} pictures to evaluate on, fewer than the {world} processes")
        self._parts = chosen.tensor_split(steps * world)[rank::world]

    def __len__(self) -> int:
        return len(self._parts)

    def rows(self, epoch: int, batch: int) -> Tensor:
        """Return the numbers of the pictures in a batch of this rank, int64, the same in every epoch."""
        return self._parts[batch]


def share(joint: int, rank: int, world: int) -> Tensor:
    """Return this rank's places of a joint batch, int64 (joint // world,), ascending.

    Places i from the front and from the back go to the same rank if its part is even, since mixing joins those two.
    """
    ends = torch.stack((torch.arange(joint), joint - 1 - torch.arange(joint)), dim=1).flatten()[:joint]
    return ends[rank * joint // world : (rank + 1) * joint // world].sort().values


def blocks_in_window(blocks: Tensor) -> int:
    """Return the number of blocks of average size that are in use at a time."""
    return max(1, WINDOW * (int(blocks.max()) + 1) // len(blocks))
