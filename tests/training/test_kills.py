"""A run that is killed, whenever, goes on and ends as if it had not been."""

import os
import random
import signal
from time import monotonic

import pytest
import torch

from training.forks import processes
from training.small_runs import differences, finish, outcome

KILLS = 10

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


def work(folder, save=_save):
    torch.set_num_threads(1)
    torch.save = save
    finish(folder, model={"start": {"float_epochs": 1}}, checkpoint={"every_steps": 1})


def is_killed(*arguments, after=None):
    """Whether `work` of these arguments was killed, by us after so many seconds or by itself, before it was done."""
    process = processes.Process(target=work, args=arguments)
    process.start()
    process.join(after)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """How the run ends, and its seconds."""
    folder = tmp_path_factory.mktemp("unbroken")
    warm = processes.Process(target=int)  # starts what all others are forked from
    warm.start()
    warm.join()
    began = monotonic()
    assert not is_killed(folder)
    return outcome(folder), monotonic() - began


def test_a_run_killed_at_random_moments_ends_as_the_unbroken_one(unbroken, tmp_path):
    expected, seconds = unbroken
    moments, kills, runs = random.Random(0), 0, 0
    while kills < KILLS:
        folder, runs = tmp_path / str(runs), runs + 1
        while is_killed(folder, after=moments.uniform(0, seconds)):
            kills += 1
        assert not differences(expected, outcome(folder))


@pytest.mark.parametrize("number", [2, 6])
def test_a_run_killed_while_it_writes_goes_on_from_the_checkpoint_before(number, unbroken, tmp_path):
    assert is_killed(tmp_path, DiesWriting(number))
    assert not is_killed(tmp_path)
    assert not differences(unbroken[0], outcome(tmp_path))
