"""Two processes by DDP and by FSDP2, against one with the joined batch; and what goes on where they stopped."""

import lightning
import pytest
import torch
from torch.distributed.tensor import DTensor

from stacks.worlds import FSDP_ON_CPUS
from training.ranks import RANKS, run_on_ranks
from training.small_runs import TRANSFORMER, finish, outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")

BATCH = 32
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
"""Adam would make steps out of rounding where gradients are next to nothing."""
MODEL = {"network": TRANSFORMER, "optimizer": SGD}
STRATEGIES = ["ddp", "fsdp2"] if FSDP_ON_CPUS else ["ddp"]


class StopError(Exception):
    pass


class Stopping(lightning.Callback):
    """Stops before the last step but one, of which a checkpoint was written."""

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 4:
            raise StopError


def job(folder):
    for strategy in STRATEGIES:
        parts = {
            "model": MODEL,
            "trainer": {"strategy": strategy, "devices": RANKS},
            "data": {"batch_size": BATCH // RANKS},
            "checkpoint": {"every_steps": 1},
        }
        with pytest.raises(StopError):
            finish(folder / strategy, [Stopping()], **parts)
        run = finish(folder / strategy, **parts)
        assert isinstance(run.model.network.head.weight, DTensor) == (strategy == "fsdp2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run_on_ranks(job, folder)
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    finish(folder, model=MODEL, data={"batch_size": BATCH}, checkpoint={"every_steps": 1})
    return outcome(folder)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_that_were_stopped_train_as_one_with_the_joined_batch(strategy, folder, expected):
    found = outcome(folder / strategy)
    assert found.keys() == expected.keys()
    assert len(found.pop("packed")) == len(expected["packed"])
    for name, value in found.items():
        assert near(value, expected[name]), name


def near(a, b):
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-5)
    return a == (pytest.approx(b, rel=1e-5) if isinstance(b, float) else b)
