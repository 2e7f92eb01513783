"""Two processes that train together over gloo; a test module runs them once and reads what they return."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from stacks.nets import Batch
from training import forks

RANKS = 2
FSDP_ON_CPUS = torch.__version__ >= (2, 8)
"""Older ones need an accelerator, or sum over gloo the gradients that they should average (2.7.0 does)."""


def results_of(job: Callable[[Path], Any], folder: Path) -> list[Any]:
    """What `job`, a function of a module, returns on each rank. It is given `folder`, which the ranks share."""
    torch.multiprocessing.start_processes(_run, (job, folder), nprocs=RANKS, start_method=forks.METHOD)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def _run(rank: int, job: Callable[[Path], Any], folder: Path) -> None:
    gc.freeze()  # `pack` collects garbage, which else goes through all imports
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    try:
        torch.save(job(folder), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
    os._exit(0)  # at once: threads of torch's may outlive what they use, and abort a process that has done its work


def share(data: list[Batch]) -> list[Batch]:
    """This rank's part of each batch."""
    rank = dist.get_rank()
    return [(images.chunk(RANKS)[rank], labels.chunk(RANKS)[rank]) for images, labels in data]
