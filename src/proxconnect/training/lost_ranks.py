"""What is said where one of several processes has ended, and another waits for its answer."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning

_LOST = re.compile(r"[Cc]onnection (was )?(closed|reset)|Broken pipe|Read error|remote process (has )?exited")


class LostRankError(ConnectionError):
    """Another process of the run has ended; the message says from where the run goes on."""


@contextmanager
def telling(trainer: lightning.Trainer, checkpoint: Path | None = None) -> Iterator[None]:
    """Turn what the backend says of a process that does not answer into a LostRankError.

    `checkpoint` is that from which the run goes on, where it is there.
    """
    try:
        yield
    except RuntimeError as error:
        if trainer.world_size == 1 or not _LOST.search(str(error)):
            raise
        raise LostRankError(
            f"another of the {trainer.world_size} processes of this run has ended, killed or by the error that it "
            f"printed, so rank {trainer.global_rank} ends too; {how_to_go_on(checkpoint)}"
        ) from error


def how_to_go_on(checkpoint: Path | None) -> str:
    """What to do about a run that has ended."""
    there = checkpoint is not None and checkpoint.exists()
    return f"go on by --ckpt_path last (from {checkpoint})" if there else "start it again"
