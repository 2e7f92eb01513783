"""Checkpoints of `fit`: whole or not written, and refused by another network."""

import errno

import pytest
import torch

from proxconnect.checkpoints import CheckpointError
from proxconnect.training.checkpoints import LAST, LastCheckpoint
from training.small_runs import TRANSFORMER, configured, differences, finish, outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")


def test_a_full_disk_stops_the_run_and_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save, written = torch.save, []

    def save_until_full(checkpoint, path):
        save(checkpoint, path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path.read_bytes())

    every_step = {"every_steps": 1}
    monkeypatch.setattr(torch, "save", save_until_full)
    with pytest.raises(OSError, match="No space left"):
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
    with pytest.raises(CheckpointError, match=f"(?s){says}.*config.yaml"):
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


class Malicious:
    def __reduce__(self):
        return eval, ("open('executed', 'w').close()",)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_damaged_checkpoint_is_told(content, tmp_path):
    (tmp_path / LAST).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is no checkpoint of a run, or a damaged one"):
        finish(tmp_path)


def test_a_checkpoint_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "epoch": Malicious()}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="is no checkpoint of a run, or a damaged one"):
        finish(tmp_path)
    assert not (tmp_path / "executed").exists()
