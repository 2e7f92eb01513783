"""`proxconnect fit` in a folder that holds a run, or the beginning of one."""

import io

import pytest
from rich.console import Console

from proxconnect.training import commands
from proxconnect.training.checkpoints import LAST
from proxconnect.training.configuration import UsageError
from proxconnect.training.runs import FLOAT
from training.small_runs import PICTURES, finish

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")


def run(verb, folder, *more):
    """What the command prints of a run of one epoch after a float phase of one."""
    said = io.StringIO()
    options = {
        "data": PICTURES, "data.batch_size": 32, "model.network.name": "small_cnn", "model.binary.weights": "bc",
        "model.start.float_epochs": 1, "trainer.max_epochs": 1, "trainer.accelerator": "cpu", "trainer.logger": "false",
        "trainer.enable_progress_bar": "false", "trainer.default_root_dir": folder,
    }  # fmt: skip
    commands.run(verb, [*(f"--{name}={value}" for name, value in options.items()), *more], Console(file=said))
    return said.getvalue()


def test_a_run_that_was_stopped_in_its_float_phase_goes_on_and_no_other_takes_that_phase(tmp_path):
    written = finish(tmp_path / FLOAT, model={"binary": None}, trainer={"max_epochs": 1}).folder / LAST
    before = written.read_bytes()
    with pytest.raises(UsageError, match=r"holds a run already: go on with it by --ckpt_path last"):
        run("fit", tmp_path, "--seed_everything=7")
    with pytest.raises(UsageError, match="there is no checkpoint"):
        run("test", tmp_path, "--ckpt_path=last")
    assert "Accuracy of the shipped network" in run("fit", tmp_path, "--ckpt_path=last")
    assert written.read_bytes() == before
    assert "Accuracy of the shipped network" in run("test", tmp_path, "--ckpt_path=last")


@pytest.mark.parametrize("given", ["last", "absent.ckpt", "."])
def test_a_checkpoint_that_is_no_file_is_told_so(given, tmp_path):
    with pytest.raises(UsageError, match=r"there is no checkpoint .*name the folder of the run"):
        run("fit", tmp_path, f"--ckpt_path={given}")


def test_a_run_that_ends_without_a_validation_says_so(tmp_path):
    assert "not measured after the last epoch" in run("fit", tmp_path, "--trainer.check_val_every_n_epoch=2")
    assert "not measured after the last epoch" in run("fit", tmp_path / "none", "--trainer.max_epochs=0")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--model.sharpening.weights.hold=1.0", "hold is a share of all steps"),
        ("--model.calibration=0", "calibration must be at least 1 batch"),
        ("--model.label_smoothing=1.5", "label_smoothing from 0 to 1"),
    ],
)
def test_numbers_that_make_no_sense_are_told_before_anything_runs(option, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        run("fit", tmp_path, option)
    assert not list(tmp_path.iterdir())


def test_the_configuration_of_a_run_that_went_on_begins_anew(tmp_path):
    run("fit", tmp_path, "--trainer.max_epochs=1")
    run("fit", tmp_path, "--trainer.max_epochs=2", "--ckpt_path=last")
    with pytest.raises(UsageError, match="holds a run already"):
        commands.run("fit", ["--config", str(tmp_path / "config.yaml")], Console(file=io.StringIO()))
