"""Batches, made by worker processes or here; what trains knows where it is and can start anywhere."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from proxconnect._support.termination import pass_over_one
from proxconnect.training.data.order import Order

Batch = tuple[Tensor, Tensor]
"""Images, float32 (N, C, H, W), and labels, int64 (N,)."""


class View(Protocol):
    """How pictures are shown to a network."""

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        """The pictures `rows`, int64 (N,), as they are shown in this epoch: float32 (N, C, H, W)."""


class Batches(Dataset[Batch]):
    """`batches[epoch, batch]`: a pure function of the two, so that who computes it and when makes no difference."""

    def __init__(self, view: View, labels: Tensor, order: Order) -> None:
        self.view, self.labels, self.order = view, labels, order

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        epoch, batch = place
        rows = self.order.rows(epoch, batch)
        return self.view(rows, epoch), self.labels[rows]

    def stream(self, places: Sequence[tuple[int, int]], workers: int) -> Iterator[Batch]:
        """The batches at `places` in turn, by so many processes (0: by this one). Takes no global random number."""
        own_generator = torch.Generator()  # else the loader would draw its seed from the global one
        pinned = torch.cuda.is_available()
        yield from DataLoader(
            self, batch_size=None, sampler=places, num_workers=workers, pin_memory=pinned, generator=own_generator,
            worker_init_fn=_begin_to_work,
        )  # fmt: skip


class TrainLoader:
    """Epoch after epoch of `batches`: each iteration is the next epoch, from its first batch on.

    `used` says how many batches of an epoch are used, if not all, so that the position after the last of them is the
    next epoch. This is no DataLoader, in which Lightning would put a sampler of its own; `Batches` knows the ranks.
    """

    def __init__(self, batches: Batches, workers: int = 0, used: Callable[[], float] = lambda: math.inf) -> None:
        self.batches, self.workers = batches, workers
        self._used = used
        self._start = self._next = (0, 0)
        self.latest: tuple[int, int] | None = None
        """The epoch and number of the batch that was yielded last."""

    def start_at(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin with this batch of this epoch; from the end of an epoch it is the next one.

        Iterations that follow are the epochs that follow. ValueError where an epoch has no such batch.
        """
        if epoch < 0 or not 0 <= batch <= len(self):
            raise ValueError(f"start_at({epoch}, {batch}): an epoch has batches 0 to {len(self) - 1}, not {batch}")
        self._next = epoch, batch
        self._start = self.position

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and number of the batch after the one that was yielded last."""
        epoch, batch = self._next
        return (epoch, batch) if batch < min(len(self), self._used()) else (epoch + 1, 0)

    def state_dict(self) -> dict[str, int]:
        """The position, which checkpoints of Lightning hold."""
        epoch, batch = self.position
        return {"epoch": epoch, "batch": batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start at the position of `state_dict`."""
        self.start_at(state_dict["epoch"], state_dict["batch"])

    def __len__(self) -> int:
        """The batches of a whole epoch, wherever the next iteration begins."""
        return len(self.batches.order)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._start
        places = [(epoch, batch) for batch in range(first, len(self))]
        for place, batch in zip(places, self.batches.stream(places, self.workers), strict=True):
            if place == places[0]:
                self._start = (epoch + 1, 0)  # only now, since an iteration that yields nothing is no epoch
            self.latest, self._next = place, (epoch, place[1] + 1)
            yield batch


def _begin_to_work(_: int) -> None:
    pass_over_one()  # else the batches under way would be lost, and the run with them, before it can write a checkpoint


class EvalLoader:
    """All of `batches` once, in each iteration the same."""

    def __init__(self, batches: Batches, workers: int = 0) -> None:
        self.batches, self.workers = batches, workers

    def __len__(self) -> int:
        return len(self.batches.order)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches.stream([(0, batch) for batch in range(len(self))], self.workers)
