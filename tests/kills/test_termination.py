"""SIGTERM: what is done is kept, the status is 143, and the run goes on as if it had not been stopped."""

import multiprocessing
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from kills.stopping import Sends
from proxconnect._support.termination import TerminatedError, raising
from proxconnect.cli.command import main
from proxconnect.training import checkpoints
from proxconnect.training.checkpoints import LAST, read_run
from training.pictures import GeneratedPictures
from training.ranks import RANKS, start_ranks
from training.small_runs import PICTURES, differences, finish, outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")

PARTS = {"trainer": {"accumulate_grad_batches": 2}, "data": {"batch_size": 16}}
"""Three optimizer steps an epoch, six batches."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    finish(folder, **PARTS)
    return outcome(folder)


@pytest.mark.parametrize(
    ("hook", "number", "steps"),
    [
        ("on_train_batch_start", 3, 2),  # between two batches of one step, which is made first
        ("on_train_batch_end", 6, 3),
        ("on_validation_batch_start", 1, 3),
    ],
)
def test_the_step_under_way_is_made_and_kept(hook, number, steps, expected, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TerminatedError, match=rf"stopped by SIGTERM after {steps} optimizer steps") as stop:
        finish(tmp_path, [Sends(hook, number)], **PARTS)
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    finish(tmp_path, **PARTS)
    assert not differences(expected, outcome(tmp_path))


def test_the_command_says_how_to_go_on(tmp_path, capsys):
    options = {
        "data": PICTURES, "model.network.name": "small_cnn", "model.binary.weights": "bc", "data.batch_size": 32,
        "trainer.max_epochs": 2, "trainer.accelerator": "cpu", "trainer.logger": "false",
        "trainer.enable_progress_bar": "false", "trainer.default_root_dir": tmp_path,
    }  # fmt: skip
    command = ["fit", *(f"--{name}={value}" for name, value in options.items())]
    assert main([*command, "--trainer.callbacks=kills.stopping.Sends"]) == 143
    assert "stopped by SIGTERM after 2 optimizer steps; go on by --ckpt_path last" in capsys.readouterr().err
    assert main([*command, "--ckpt_path=last"]) == 0


def test_the_first_raises_and_what_ends_is_not_disturbed():
    before = signal.getsignal(signal.SIGTERM)
    with raising():
        with pytest.raises(TerminatedError):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_loaders_process_works_on_after_one():
    data = GeneratedPictures(batch_size=8, workers=1)
    before = set(multiprocessing.active_children())
    batches = iter(data.train_dataloader())
    first = next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGTERM)
    rest = list(batches)
    whole = list(GeneratedPictures(batch_size=8).train_dataloader())
    assert all(torch.equal(a[0], b[0]) for a, b in zip([first, *rest], whole, strict=True))


def on_ranks(folder, hook, number, rank):
    """The first rank has three batches of validation, the second two; they ask each other as rarely as they may."""
    checkpoints.time = SimpleNamespace(monotonic=lambda: 0.0)
    two = {"strategy": "ddp", "devices": RANKS}
    data = {"batch_size": 8, "eval_batch_size": 16 if os.environ["RANK"] == "1" else 8}
    finish(folder, [Sends(hook, number, rank)], trainer=two | {"max_epochs": 50}, data=data)


@pytest.mark.parametrize(
    ("hook", "number", "rank", "steps"),
    [
        ("on_train_batch_start", 2, 1, 5),  # the last step before the one that validation follows
        pytest.param("on_validation_batch_start", 1, 1, None, marks=pytest.mark.thorough),
        ("on_validation_batch_start", 3, 0, 11),  # where the other waits for it
    ],
    ids=["training", "validation", "a batch more"],
)
def test_one_of_two_ranks_ends_both(hook, number, rank, steps, tmp_path):
    ranks = start_ranks(on_ranks, tmp_path, hook, number, rank)
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [143, 143]
    last = tmp_path / LAST
    assert (read_run(last)["global_step"] == steps) if steps else not last.exists()  # which the epoch's end writes
