"""Processes that are forked from one that has imported what a run needs, and nothing else."""

import multiprocessing
from types import SimpleNamespace

import pytest

from proxconnect._support import processes as support

METHOD = "forkserver"
processes = multiprocessing.get_context(METHOD)
processes.set_forkserver_preload(
    [
        "proxconnect.training.row",
        "proxconnect.training.data.modules",
        "proxconnect.training.study.study",
        "torch._dynamo",
    ]
)


def fork_workers(patch: pytest.MonkeyPatch) -> None:
    """Fork the workers that the library starts, too: each that is spawned imports for seconds."""
    patch.setattr(support, "multiprocessing", SimpleNamespace(get_context=lambda _: processes))
