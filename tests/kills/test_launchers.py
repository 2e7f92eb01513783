"""A rank that Lightning started ends, in words, when the process that started it has ended before they met."""

import os
import signal
import time

import pytest
import torch

from proxconnect.training.lost_ranks import GRACE, LAUNCHER, LOOK
from training.ranks import RANKS, free_port
from training.small_runs import finish, started

SAID, ENDS = "said", "the process that started rank 1 has ended"
SOON = LOOK + GRACE
PATIENCE = 120
"""Seconds for what takes a few on a machine that does nothing else."""


def first_rank(folder, dies_at_once):
    """Dies when it has forked another rank, as Lightning would start it, or when that one waits for it."""
    os.environ |= {
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "NODE_RANK": "0", "LOCAL_RANK": "1",
        "WORLD_SIZE": str(RANKS), LAUNCHER: str(os.getpid()),
    }  # fmt: skip
    if os.fork() == 0:
        second_rank(folder)
    while not (dies_at_once or (folder / "waits").exists()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def second_rank(folder):
    meet = torch.distributed.init_process_group

    def told(*arguments, **options):
        (folder / "waits").touch()
        meet(*arguments, **options)

    torch.distributed.init_process_group = told
    os.dup2(os.open(folder / SAID, os.O_CREAT | os.O_WRONLY), 2)
    finish(folder / "run", trainer={"strategy": "ddp", "devices": RANKS})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("dies_at_once", [True, False])
def test_it_does_not_wait_for_the_dead(dies_at_once, tmp_path):
    launcher = started(first_rank, tmp_path, dies_at_once)
    launcher.join(PATIENCE)
    assert launcher.exitcode == -signal.SIGKILL
    until = time.monotonic() + SOON + PATIENCE
    while ENDS not in (said := read(tmp_path / SAID)) and time.monotonic() < until:
        time.sleep(0.05)
    assert ENDS in said
    assert "start it again" in said


def read(path):
    return path.read_text() if path.exists() else ""
