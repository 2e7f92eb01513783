"""End a rank, and say how to go on, when another rank of its run has ended."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

LAUNCHER = "PROXCONNECT_LAUNCHER"
"""The variable in which the first rank of a machine gives its process id to the ranks that it starts."""
LOOK, GRACE = 0.5, 2.5  # seconds between looks at the launcher, and until a rank ends without an error of the backend

_LOST = re.compile(r"[Cc]onnection (was )?(closed|reset)|Broken pipe|Read error|remote process (has )?exited")


class LostRankError(ConnectionError):
    """The error if another process of the run has ended; the message says what to do."""


@contextmanager
def noticing_lost_ranks(trainer: Trainer, checkpoint: Path | None = None) -> Iterator[None]:
    """Raise a LostRankError if the backend reports in the context that another process of the run has ended.

    The message advises to go on from `checkpoint`, if that exists. A rank that Lightning started also ends, with status
    1, soon after the process that started it: Lightning ends ranks only from there, and the backend may wait for half
    an hour. torchrun looks after its ranks.
    """
    done = threading.Event()
    launcher = _launcher(trainer)
    if launcher is not None:
        threading.Thread(target=_watch, args=(launcher, trainer.global_rank, checkpoint, done), daemon=True).start()
    try:
        yield
    except RuntimeError as error:
        if trainer.world_size == 1 or not _LOST.search(str(error)):
            raise
        raise LostRankError(
            f"another of the {trainer.world_size} processes of this run has ended, killed or by the error that it "
            f"printed, so rank {trainer.global_rank} ends too; {_how_to_go_on(checkpoint)}"
        ) from error
    finally:
        done.set()


def _launcher(trainer: Trainer) -> int | None:
    """Return the id of the process that started this rank, if that was Lightning and this is not the first rank."""
    environment = trainer.world_size > 1 and trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, LightningEnvironment):
        return None
    if environment.local_rank() == 0:
        os.environ[LAUNCHER] = str(os.getpid())
        return None
    return int(os.environ[LAUNCHER]) if LAUNCHER in os.environ else None


def _watch(launcher: int, rank: int, checkpoint: Path | None, done: threading.Event) -> None:
    """End this process after its launcher; on Windows, which keeps the id of a dead parent, only wait for `done`."""
    while os.getppid() == launcher:
        if done.wait(LOOK):
            return
    if not done.wait(GRACE):
        said = (
            f"proxconnect: the process that started rank {rank} has ended, killed or by the error that it printed, so "
            f"it ends too; {_how_to_go_on(checkpoint)}"
        )
        print(said, file=sys.stderr, flush=True)
        os._exit(1)  # no exception reaches a main thread that waits in C++


def _how_to_go_on(checkpoint: Path | None) -> str:
    there = checkpoint is not None and checkpoint.exists()
    return f"go on by --ckpt_path last (from {checkpoint})" if there else "start it again"
