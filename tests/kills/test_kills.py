"""A run that is killed, whenever, goes on and ends as if it had not been, in each training stack."""

import functools
import os
import signal

import pytest
import torch

from kills.killing import is_killed, killed_at_random, unbroken
from kills.resumable import RESUMABLE, lightning_run
from training.small_runs import differences, outcome, started

KILLS = {"plain loop": 1, "Lightning": 1, "study": 1, "DDP": 1}
"""`make test-kills` does more."""

SLOW = "Lightning", "study", "DDP"
"""Stacks that are killed below, in training/study/test_running.py, and in test_lost_ranks.py."""

_save = torch.save


class DiesWriting:
    """Stands for `torch.save`, and has written half of the file of that number when SIGKILL comes."""

    def __init__(self, number):
        self.left = number

    def __call__(self, checkpoint, file):
        _save(checkpoint, file)
        self.left -= 1
        if self.left == 0:
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def dying(folder, number):
    torch.save = DiesWriting(number)
    lightning_run(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """By stack, what its unbroken run leaves, and its seconds; made when it is asked for."""
    return functools.cache(lambda name: unbroken(RESUMABLE[name], tmp_path_factory.mktemp("whole") / "run"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.thorough] * (name in SLOW)) for name in RESUMABLE]
)
def test_runs_killed_at_random_moments_end_as_the_unbroken_one(name, whole, tmp_path):
    count = killed_at_random(RESUMABLE[name], tmp_path, KILLS[name], *whole(name))
    assert count.kills == KILLS[name]
    assert not count.differences


def test_a_run_killed_while_it_writes_goes_on_from_the_checkpoint_before(whole, tmp_path):
    assert is_killed([started(dying, tmp_path, 6)])[0]
    assert not is_killed([started(lightning_run, tmp_path)])[0]
    assert not differences(whole("Lightning")[0], outcome(tmp_path))
