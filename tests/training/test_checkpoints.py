"""Checkpoints of `fit`: whole or not written, and refused by another network."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from proxconnect._support.termination import TerminatedError
from proxconnect.deploy.checkpoints import CheckpointError
from proxconnect.training import checkpoints
from proxconnect.training.checkpoints import LAST, MOST, LastCheckpoint
from training.small_runs import TRANSFORMER, configured, differences, finish, outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")


def test_a_full_disk_stops_the_run_and_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save, written = torch.save, []

    def save_until_full(checkpoint, file):
        save(checkpoint, file)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        file.flush()
        written.append(Path(file.name).read_bytes())

    every_step = {"every_steps": 1}
    monkeypatch.setattr(torch, "save", save_until_full)
    with pytest.raises(OSError, match=r"cannot write 'last\.ckpt': make room"):
        finish(tmp_path / "full", checkpoint=every_step)
    monkeypatch.setattr(torch, "save", save)
    assert (tmp_path / "full" / LAST).read_bytes() == written[-1]
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"config.yaml", LAST}
    finish(tmp_path / "full", checkpoint=every_step)
    finish(tmp_path / "unbroken", checkpoint=every_step)
    assert not differences(outcome(tmp_path / "unbroken"), outcome(tmp_path / "full"))


def test_a_folder_that_cannot_be_made_stops_the_run_before_it_trains(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        finish(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"network": {"name": "resnet20", "options": {"width": 4}}}, "it lacks .*it has .*which the network lacks"),
        ({"binary": None}, "is 'network.stages.0.conv.weight' its 'network.stages.0.conv.latent'"),
    ],
    ids=["another network", "a float one"],
)
def test_a_checkpoint_of_another_network_is_refused_by_the_names_that_differ(model, says, tmp_path):
    finish(tmp_path)
    run = configured(tmp_path / "other", model=model)
    with pytest.raises(CheckpointError, match=rf"(?s)last\.ckpt is of another network.*{says}.*config.yaml"):
        run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=tmp_path / LAST)


def test_a_checkpoint_of_another_shape_is_refused_by_the_shapes_that_differ(tmp_path):
    finish(tmp_path, model={"network": TRANSFORMER})
    wider = {**TRANSFORMER, "options": {**TRANSFORMER["options"], "dim": 32}}
    run = configured(tmp_path / "other", model={"network": wider})
    with pytest.raises(CheckpointError, match=r"tensors are of other shapes .* there, .* here"):
        run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=tmp_path / LAST)


@pytest.mark.parametrize("arguments", [{"every_minutes": 0}, {"every_steps": 0}])
def test_a_time_between_checkpoints_that_is_none_is_refused(arguments):
    with pytest.raises(ValueError, match="must be positive"):
        LastCheckpoint(**arguments)


class Harmful:
    """Makes a file where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_checkpoint_that_would_run_code_is_refused_in_words_and_runs_none(tmp_path):
    checkpoint = torch.load(finish(tmp_path).folder / LAST)
    torch.save(checkpoint | {"more": Harmful(tmp_path / "made")}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"cannot go on from .*last\.ckpt: .* could run code"):
        finish(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kept", [0, 11, 5000, -100])
def test_a_checkpoint_that_was_cut_is_told_so(kept, tmp_path):
    path = finish(tmp_path).folder / LAST
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="it is no checkpoint of torch, or damaged"):
        finish(tmp_path)


def test_tensors_that_are_no_run_are_told_how_to_start_one(tmp_path):
    torch.save(finish(tmp_path).model.network.state_dict(), tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"fit did not write it; a run starts .* by model\.start\.checkpoint"):
        finish(tmp_path)


def fake_trainer(world_size, others_are_late):
    """Of processes that are asked, the others say the same of everything else."""

    def reduce(told, reduce_op):
        assert reduce_op == "max"
        return torch.maximum(told, torch.tensor([float(others_are_late), 0.0, 0.0]))

    strategy = SimpleNamespace(reduce=reduce, root_device="cpu")
    return SimpleNamespace(
        is_last_batch=False, accumulate_grad_batches=1, global_step=1, world_size=world_size, strategy=strategy,
        num_training_batches=6, is_global_zero=True, default_root_dir="nowhere",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("world_size", "own_clock", "others_are_late", "writes"),
    [
        (1, 0.0, False, False),
        (1, 601.0, False, True),
        (2, 0.0, True, True),
        (2, 601.0, False, True),
        (2, 0.0, False, False),
    ],
)
def test_processes_write_together(world_size, own_clock, others_are_late, writes, monkeypatch):
    callback, written = LastCheckpoint(every_minutes=10), []
    callback._written -= own_clock
    monkeypatch.setattr(callback, "_write", written.append)
    callback.on_train_batch_end(fake_trainer(world_size, others_are_late), None, None, None, 0)
    assert len(written) == writes


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, MOST), (0.5, 2), (3.0, 1)])
def test_processes_ask_about_once_a_second_and_at_least_every_few_calls(seconds, calls, monkeypatch):
    clock = 0.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock)
    asked, answers = checkpoints.Agreement(), []
    for _ in range(1 + 2 * calls):
        clock += seconds
        answers += asked.of(fake_trainer(2, others_are_late=True), False, False)[:1]
    assert [i for i, answer in enumerate(answers) if answer] == [0, calls, 2 * calls]


@pytest.mark.parametrize(("accumulated", "last"), [(1, 4), (2, 3)])
def test_processes_ask_before_the_last_step_of_an_epoch_whenever_they_asked_before(accumulated, last, monkeypatch):
    """Validation follows the last step, and ends without a checkpoint if it is the first to ask."""
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: 0.0)  # steps take no time, so questions are rare
    callback, written, trainer = LastCheckpoint(), [], fake_trainer(2, others_are_late=False)
    monkeypatch.setattr(callback, "_write", written.append)
    trainer.accumulate_grad_batches = accumulated
    callback.on_train_batch_end(trainer, None, None, None, accumulated - 1)
    callback._sigterm.came = True
    for number in range(accumulated, last):
        callback.on_train_batch_end(trainer, None, None, None, number)
    with pytest.raises(TerminatedError):
        callback.on_train_batch_end(trainer, None, None, None, last)
    assert len(written) == 1
