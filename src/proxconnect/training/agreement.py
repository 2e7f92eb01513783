"""What one of several processes wants and so all of them do."""

import time

import lightning
import torch

MOST = 20
"""Calls at most between two questions."""


class Agreement:
    """Asks all processes what they want, about once a second, since an answer is a wait for all of them."""

    def __init__(self) -> None:
        self._calls, self._every = 0, 1
        self._asked = time.monotonic()

    def of(self, trainer: lightning.Trainer, *wishes: bool, at_once: bool = False) -> list[bool]:
        """For each wish whether some process has it; nothing is wished between two questions.

        All processes call it together. When they ask next is agreed too, as their clocks differ; with `at_once` they
        ask now.
        """
        if trainer.world_size == 1:
            return list(wishes)
        self._calls += 1
        if self._calls < self._every and not at_once:
            return [False] * len(wishes)
        seconds = (time.monotonic() - self._asked) / self._calls
        told = torch.tensor([*map(float, wishes), seconds], device=trainer.strategy.root_device)
        *wanted, slowest = trainer.strategy.reduce(told, reduce_op="max").tolist()
        self._calls, self._every = 0, max(1, min(MOST, int(1 / max(slowest, 1e-6))))
        self._asked = time.monotonic()
        return [wish > 0 for wish in wanted]
