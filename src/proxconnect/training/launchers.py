"""Lightning's launcher ends its ranks where one dies, but nobody looks after the launcher: each rank does it here."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from proxconnect.training.lost_ranks import how_to_go_on

LAUNCHER = "PROXCONNECT_LAUNCHER"
"""The variable by which the first rank of a machine tells those that it starts which process they are children of."""
LOOK, GRACE = 0.5, 2.5
"""Seconds between two looks, and those in which a rank may yet end by the error that the backend tells it."""


@contextmanager
def ending_with_launcher(trainer: lightning.Trainer, checkpoint: Path | None = None) -> Iterator[None]:
    """Within, a rank that Lightning started ends in words, with status 1, soon after the process that started it.

    That may be before the two have met, for which the backend would wait half an hour. Ranks that others started, as
    torchrun, are left to them. On Windows, which tells no process that its parent has ended, it does nothing.
    """
    environment = trainer._accelerator_connector.cluster_environment
    if trainer.world_size == 1 or not isinstance(environment, LightningEnvironment):
        yield
    elif environment.local_rank() == 0:
        os.environ[LAUNCHER] = str(os.getpid())  # which is known to the others before they look, whenever this one ends
        yield
    elif LAUNCHER not in os.environ:
        yield
    else:
        done = threading.Event()
        said = (
            f"proxconnect: the process that started rank {trainer.global_rank} has ended, killed or by the error that "
            f"it printed, so it ends too; {how_to_go_on(checkpoint)}"
        )
        threading.Thread(target=_watch, args=(int(os.environ[LAUNCHER]), said, done), daemon=True).start()
        try:
            yield
        finally:
            done.set()


def _watch(launcher: int, said: str, done: threading.Event) -> None:
    while os.getppid() == launcher:
        if done.wait(LOOK):
            return
    if not done.wait(GRACE):
        print(said, file=sys.stderr, flush=True)
        os._exit(1)  # whatever the main thread waits for in C++, where no exception reaches it
