"""Batches, made by worker processes or here; training knows its position in them and can start anywhere."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from proxconnect._support.termination import ignore_first_sigterm
from proxconnect.training.data.order import InTurn, Shuffled

Batch = tuple[Tensor, Tensor]
"""Images, float32 (N, C, H, W), and labels, int64 (N,)."""

View = Callable[[Tensor, int], Tensor]
"""From the numbers of pictures, int64 (N,), and the epoch to the input of a network, float32 (N, C, H, W)."""


class Batches(Dataset[Batch]):
    """`batches[epoch, batch]` is a pure function of the two, in any process at any time; to iterate is epoch 0."""

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
        """Yield the batches at `places` in turn, made by `workers` processes (0: by this one)."""
        own_generator = torch.Generator()  # else the loader would draw its seed from the global one
        yield from DataLoader(
            self, batch_size=None, sampler=places, num_workers=self.workers, pin_memory=torch.cuda.is_available(),
            generator=own_generator, worker_init_fn=_begin_to_work,
        )  # fmt: skip


class TrainLoader:
    """Epoch after epoch of `batches`, of each of which the first `used` are used: each iteration is the next epoch.

    This is no DataLoader, since Lightning would replace the sampler of one; `Batches` knows the ranks.
    """

    def __init__(self, batches: Batches, used: Callable[[], float] = lambda: math.inf) -> None:
        self.batches, self._used = batches, used
        self._start = self._next = (0, 0)
        self.latest: tuple[int, int] | None = None
        """The epoch and number of the last batch that was yielded."""

    def start_at(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin with this batch; ValueError if an epoch has no such batch."""
        if epoch < 0 or not 0 <= batch <= len(self):
            raise ValueError(f"start_at({epoch}, {batch}): an epoch has batches 0 to {len(self) - 1}, not {batch}")
        self._next = epoch, batch
        self._start = self.position

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and number of the batch after the last one that was yielded."""
        epoch, batch = self._next
        return (epoch, batch) if batch < min(len(self), self._used()) else (epoch + 1, 0)

    def state_dict(self) -> dict[str, int]:
        """Return the position, for checkpoints of Lightning."""
        return dict(zip(("epoch", "batch"), self.position, strict=True))

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start at the position of `state_dict`."""
        self.start_at(**state_dict)

    def __len__(self) -> int:
        """Return the batches of a whole epoch, wherever the next iteration begins."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._start
        places = [(epoch, batch) for batch in range(first, len(self))]
        for place, batch in zip(places, self.batches.stream(places), strict=True):
            if place == places[0]:
                self._start = (epoch + 1, 0)  # only now, since an iteration that yields nothing is no epoch
            self.latest, self._next = place, (epoch, place[1] + 1)
            yield batch


def require_batch(images: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless images are floats (N, C, H, W), N > 0, and targets labels or shares of classes."""
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
    ignore_first_sigterm()  # a SIGTERM, else the batches under way are lost before the run can write a checkpoint
