"""From what values runs start."""

import pytest
import torch

from proxconnect.deploy.checkpoints import CheckpointError
from proxconnect.layers import BinaryLayer
from proxconnect.training.checkpoints import LAST
from proxconnect.training.runs import ACTIVATIONS, FLOAT, fit, last_checkpoint, phases
from proxconnect.training.start import Start
from training.small_runs import configuration, configured, finish

BWA = {"weights": "bnn++", "activations": "poly", "thresholds": True}


def built(folder, **parts):
    """The network of a run before its first step."""
    run = configured(folder, **parts, trainer={"max_epochs": 0})
    fit(run)
    return run.model.network


def saved(path):
    return {name.removeprefix("network."): tensor for name, tensor in torch.load(path)["state_dict"].items()}


def binary_layers(network):
    return [module for module in network.modules() if isinstance(module, BinaryLayer)]


@pytest.fixture(scope="module")
def float_run(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("float"), model={"binary": None}).folder / LAST


def test_initial_values_hang_on_the_seed_and_not_on_the_pair(tmp_path):
    one, other = (
        [conv.latent for conv in binary_layers(built(tmp_path / pair, model={"binary": {"weights": pair}}))]
        for pair in ("bnn+", "bnn++")
    )
    assert len(one) == 4
    assert all(map(torch.equal, one, other))


def test_fine_tuning_starts_from_the_float_values(float_run, tmp_path):
    network = built(tmp_path, model={"binary": {"weights": "bc"}, "start": {"checkpoint": str(float_run)}})
    float_values = saved(float_run)
    assert torch.equal(network.stages[0].conv.latent, float_values["stages.0.conv.weight"])
    assert torch.equal(network.stages[0].norm.running_mean, float_values["stages.0.norm.running_mean"])


def test_a_binary_run_may_start_another(tmp_path):
    first = finish(tmp_path / "first", model={"binary": {"weights": "bnn++"}}).folder / LAST
    network = built(tmp_path / "second", model={"binary": {"weights": "bnn+"}, "start": {"checkpoint": str(first)}})
    assert torch.equal(network.stages[0].conv.latent, saved(first)["stages.0.conv.latent"])


def test_phases_come_one_from_the_other_and_thresholds_with_them(tmp_path):
    start = {"float_epochs": 1, "activation_epochs": 2}
    network = built(tmp_path, model={"binary": BWA, "start": start, "teacher": {}})
    float_values, activations = (saved(tmp_path / name / LAST) for name in (FLOAT, ACTIVATIONS))
    assert "stages.0.conv.weight" in float_values
    assert not torch.equal(activations["stages.0.conv.latent"], float_values["stages.0.conv.weight"])
    shifts = activations["stages.0.conv.input_shift.shift"]
    assert shifts.any()
    assert torch.equal(network.stages[0].conv.input_shift.shift, shifts)
    assert torch.equal(network.stages[0].conv.latent, activations["stages.0.conv.latent"])


def test_the_float_phase_is_the_teacher_of_the_run(tmp_path):
    run = configured(
        tmp_path, model={"start": {"float_epochs": 1}, "teacher": {"share": 0.5}}, trainer={"max_epochs": 0}
    )
    fit(run)
    teacher = run.model.distillation.teacher.state_dict()
    assert teacher.keys() == saved(tmp_path / FLOAT / LAST).keys()
    assert all(torch.equal(tensor, saved(tmp_path / FLOAT / LAST)[name]) for name, tensor in teacher.items())


def test_the_float_network_that_an_activation_phase_started_from_is_the_teacher(float_run, tmp_path):
    start = {"checkpoint": str(float_run), "activation_epochs": 1}
    run = configured(tmp_path, model={"binary": BWA, "start": start, "teacher": {}}, trainer={"max_epochs": 0})
    fit(run)
    values = saved(float_run)
    assert all(
        torch.equal(tensor, values[name]) for name, tensor in run.model.distillation.teacher.state_dict().items()
    )


def test_a_binary_network_is_no_teacher(tmp_path):
    with pytest.raises(CheckpointError, match=r"is of a binary network: a teacher is a float one"):
        built(tmp_path, model={"binary": BWA, "start": {"activation_epochs": 1}, "teacher": {}})


def test_what_was_distilled_is_validated_without_its_teacher(tmp_path):
    model = {"start": {"float_epochs": 1}, "teacher": {}}
    trained = finish(tmp_path, model=model)
    run = configured(tmp_path, model=model)
    [measured] = run.trainer.validate(run.model, run.datamodule, tmp_path / LAST, verbose=False)
    assert measured["val/accuracy"] == pytest.approx(trained.model.curve[-1]["accuracy"])


def test_of_a_run_with_an_average_of_the_weights_the_average_starts_another(tmp_path):
    averaging = {"callbacks": [{"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.9}}]}
    first = finish(tmp_path / "first", model={"binary": None}, trainer=averaging).folder / LAST
    network = built(tmp_path / "second", model={"binary": {"weights": "bc"}, "start": {"checkpoint": str(first)}})
    assert torch.equal(network.stages[0].conv.latent, saved(first)["stages.0.conv.weight"])


def test_a_phase_that_is_done_is_not_run_again(tmp_path):
    finish(tmp_path, model={"start": {"float_epochs": 1}})
    written = (tmp_path / FLOAT / LAST).stat().st_mtime_ns
    finish(tmp_path, model={"start": {"float_epochs": 1}}, trainer={"max_epochs": 3})
    assert (tmp_path / FLOAT / LAST).stat().st_mtime_ns == written


def test_phases_are_plain_runs():
    plain = configuration(
        model={"binary": {"weights": "bc", "activations": None}}, trainer={"default_root_dir": "runs/x"}
    )
    plain["model"]["start"] = {"float_epochs": 0, "activation_epochs": 3, "checkpoint": None}
    with pytest.raises(ValueError, match="activation_epochs is for binary activations"):
        phases(plain)


@pytest.mark.parametrize("arguments", [{"float_epochs": -1}, {"checkpoint": "x.ckpt", "float_epochs": 1}])
def test_starts_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match=r"must not be negative|leave one of them out"):
        Start(**arguments)


def test_an_absent_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*absent\.ckpt: give the file that a run wrote"):
        built(tmp_path, model={"start": {"checkpoint": str(tmp_path / "absent.ckpt")}})


def test_a_checkpoint_of_another_network_is_told_by_its_names(float_run, tmp_path):
    other = {"network": {"name": "bireal_resnet20", "options": {"width": 4}}, "start": {"checkpoint": str(float_run)}}
    with pytest.raises(CheckpointError, match=r"is of shape \(32, 1, 3, 3\) in .*last\.ckpt, but \(4, 1, 3, 3\)"):
        built(tmp_path, model=other)


def test_a_folder_without_a_run_has_no_last_checkpoint(tmp_path):
    assert last_checkpoint(configured(tmp_path)) is None
