"""Batches: which pictures are in each, as pure functions of seed and epoch, and loaders that can start anywhere."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from proxconnect._support.termination import ignore_first_sigterm
from proxconnect.training.data.hashing import Purpose, hashed, uniform
from proxconnect.training.data.pictures import DatasetError

WINDOW = 2048  # about the number of pictures in use at a time if they lie in blocks of a disk


def by_class(labels: Tensor, seed: int) -> Tensor:
    """Return a random order of pictures of classes `labels`: indices, int64 (N,), with each class spread evenly."""
    positions = torch.empty(len(labels), dtype=torch.float64)
    for label, members in enumerate(labels.argsort(stable=True).split(labels.bincount().tolist())):
        members = members[hashed(Purpose.SPLIT, seed, members).argsort()]
        offset = uniform(Purpose.SPLIT, seed, -1 - label)
        positions[members] = (torch.arange(len(members)) + offset) / max(len(members), 1)
    return positions.argsort(stable=True)


def select(labels: Tensor, validation: int, subset: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of `subset` pictures to train on (None: all the others) and of `validation` held-out ones.

    Both are int64, ascending, with classes in about their shares of `labels`, int64 (N,). DatasetError if N or a
    count is too small.
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
    """The order of training: which pictures are in each batch, shuffled by `seed` and the number of the epoch.

    Each of `world` ranks has its part of joint batches of `batch_size * world`. An incomplete one is dropped;
    DatasetError if none is complete. `chosen` are the indices of the pictures, int64. With `blocks`, as in `Pictures`,
    pictures are shuffled within windows of random blocks, so that a block need be read only once an epoch.
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
        """Return the indices, int64 (batch_size,), of this rank's pictures in joint batch number `batch` of `epoch`."""
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
    """The order of evaluation: each picture once, in as few batches of at most `batch_size` as possible.

    `chosen` are the indices of the pictures of all ranks, int64, in order. Each of `world` ranks has its share of the
    batches. The shares have the same number of batches, since ranks wait for each other; DatasetError if there are too
    few pictures for that.
    """

    def __init__(self, chosen: Tensor, batch_size: int, rank: int = 0, world: int = 1) -> None:
        steps = -(-len(chosen) // (batch_size * world))
        if len(chosen) < (least := max(1, steps) * world):
            raise DatasetError(
                f"there are {len(chosen)} pictures to evaluate on, but {world} processes need at least {least}: one "
                "for each of their batches"
            )
        self._parts = chosen.tensor_split(steps * world)[rank::world]

    def __len__(self) -> int:
        return len(self._parts)

    def rows(self, epoch: int, batch: int) -> Tensor:
        """Return the indices of the pictures in batch number `batch` of this rank, int64, the same in every epoch."""
        return self._parts[batch]


def share(joint: int, rank: int, world: int) -> Tensor:
    """Return the positions in a joint batch of `joint` pictures that rank `rank` of `world` takes: int64, ascending.

    If `joint / world` is even, each part has position `joint - 1 - i` together with i, since `mixed` mixes these two.
    """
    ends = torch.stack((torch.arange(joint), joint - 1 - torch.arange(joint)), dim=1).flatten()[:joint]
    return ends[rank * joint // world : (rank + 1) * joint // world].sort().values


def blocks_in_window(blocks: Tensor) -> int:
    """Return how many blocks of average size hold about `WINDOW` pictures, at least 1; `blocks` is as in `Pictures`."""
    return max(1, WINDOW * (int(blocks.max()) + 1) // len(blocks))


Batch = tuple[Tensor, Tensor]  # images, float32 (N, C, H, W), and labels, int64 (N,)

View = Callable[[Tensor, int], Tensor]
"""From the numbers of pictures, int64 (N,), and the epoch to the input of a network, float32 (N, C, H, W)."""


class Batches(Dataset[Batch]):
    """A data set whose items are batches: `batches[epoch, batch]` is images and labels, see `Batch`.

    An item depends on its indices alone, whichever worker makes it. On another rank of DDP, the same indices may give
    another batch. Iteration yields the batches of epoch 0. `labels` are the classes of all pictures, int64, and
    `workers` is the number of processes that make batches, 0 for none.
    """

    def __init__(self, view: View, labels: Tensor, order: Shuffled | InTurn, workers: int = 0) -> None:
        self.view, self.labels, self.order, self.workers = view, labels, order, workers

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        return self.stream([(0, batch) for batch in range(len(self))])

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        epoch, batch = place
        rows = self.order.rows(epoch, batch)
        return self.view(rows, epoch), self.labels[rows]

    def stream(self, places: Sequence[tuple[int, int]]) -> Iterator[Batch]:
        """Yield the batches (epoch, batch) of `places` in turn, made by the worker processes if there are any."""
        yield from DataLoader(
            self, batch_size=None, sampler=places, num_workers=self.workers, pin_memory=torch.cuda.is_available(),
            worker_init_fn=_begin_to_work,
            generator=torch.Generator(),  # else the loader would draw its seed from the global one
        )  # fmt: skip


class TrainLoader:
    """A loader of training batches, in which each iteration is the next epoch and can start at any batch.

    Lightning would replace the sampler of a DataLoader. `used` returns how many batches of an epoch the trainer takes.
    """

    def __init__(self, batches: Batches, used: Callable[[], float] = lambda: math.inf) -> None:
        self.batches, self._used = batches, used
        self._start = (0, 0)
        self.latest = (0, -1)
        """The epoch and number of the last batch that was yielded, or of the one before the first."""

    def start_at(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin with batch `batch` of epoch `epoch`, or with the next epoch if there is none.

        ValueError unless `epoch` is at least 0 and `batch` is 0 to `len(self)`.
        """
        if epoch < 0 or not 0 <= batch <= len(self):
            raise ValueError(f"start_at({epoch}, {batch}): an epoch has batches 0 to {len(self) - 1}, not {batch}")
        self.latest = epoch, batch - 1
        self._start = self.position

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and number of the batch to take after `latest`."""
        epoch, batch = self.latest
        return (epoch, batch + 1) if batch + 1 < min(len(self), self._used()) else (epoch + 1, 0)

    def state_dict(self) -> dict[str, int]:
        """Return the position as {"epoch": ..., "batch": ...}, for checkpoints of Lightning."""
        return dict(zip(("epoch", "batch"), self.position, strict=True))

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration begin at the position that `state_dict` holds."""
        self.start_at(**state_dict)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._start
        places = [(epoch, batch) for batch in range(first, len(self))]
        for place, batch in zip(places, self.batches.stream(places), strict=True):
            if place == places[0]:
                self._start = (epoch + 1, 0)  # only now, since an iteration that yields nothing is no epoch
            self.latest = place
            yield batch


def require_batch(images: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless images are floats (N, C, H, W), N > 0, and targets int64 (N,) or floats (N, classes)."""
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise ValueError(f"the loader gave {_said(images)} for images: they must be standardised floats (N, C, H, W), "
                         "N at least 1")  # fmt: skip
    is_label = targets.ndim == 1 and targets.dtype == torch.int64
    is_share = targets.ndim == 2 and targets.is_floating_point()
    if len(targets) != len(images) or not (is_label or is_share):
        raise ValueError(f"the loader gave {_said(targets)} for the labels of {len(images)} images: they must be int64 "
                         "(N,), or shares of classes, floats (N, classes)")  # fmt: skip


def _said(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _begin_to_work(_: int) -> None:
    ignore_first_sigterm()  # else the batches under way are lost before the run can write a checkpoint
