"""Options of Lightning's Trainer that change how a binary network computes or which weights are kept."""

import copy
from functools import partialmethod
from pathlib import Path

import lightning
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import proxconnect as pc
from proxconnect.layers import BinaryLayer
from proxconnect.training.configuration import Configured, UsageError
from proxconnect.training.models.residual import small_cnn
from proxconnect.training.runs import PACKED
from training.small_runs import configuration, finish

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")


def parameters(run):
    return dict(run.model.network.named_parameters())


def test_mixed_precision_trains_with_latents_and_mu_in_float32_and_measures_in_float32(tmp_path):
    seen = set()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, _, output: (
            seen.add((module.weight_quantizer.is_hard, output.dtype)) if isinstance(module, BinaryLayer) else None
        )
    )
    run = finish(tmp_path, trainer={"precision": "bf16-mixed"})
    handle.remove()
    assert seen == {(False, torch.bfloat16), (False, torch.float32), (True, torch.float32)}  # float32: as it ships
    assert {parameter.dtype for parameter in parameters(run).values()} == {torch.float32}
    assert run.model.curve[1]["loss"] < 0.9 * run.model.curve[0]["loss"]


def test_a_compiled_network_trains_as_the_other(tmp_path, monkeypatch):
    counter = CompileCounter()  # it runs graphs as they are, because other backends are slow
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=counter))
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    model = {"optimizer": sgd}
    compiled = finish(tmp_path / "compiled", model=model | {"compile": True})
    assert compiled.model.network._compiled_call_impl is not None
    assert counter.frame_count == 1, "in two epochs with validation, while μ moved, and in packing"
    other = finish(tmp_path / "other", model=model)
    for name, parameter in parameters(compiled).items():
        torch.testing.assert_close(parameter, parameters(other)[name], msg=name)
    assert compiled.model.curve[-1]["accuracy"] == other.model.curve[-1]["accuracy"]


class Averaging(lightning.Callback):
    """The average by hand: the first weights, then 0.6 of what it was and 0.4 of the weights after each step."""

    def on_train_batch_end(self, trainer, module, *_):
        weights = {name: p.detach().clone() for name, p in module.network.named_parameters()}
        self.average = (
            {name: torch.lerp(self.average[name], w, 0.4) for name, w in weights.items()}
            if trainer.global_step > 1
            else weights
        )


def test_the_average_of_the_weights_is_what_is_validated_and_shipped(tmp_path):
    average, by_hand = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.6}}, Averaging()
    run = finish(tmp_path, [by_hand], trainer={"callbacks": [average]})
    for name, parameter in parameters(run).items():
        torch.testing.assert_close(parameter.detach(), by_hand.average[name], msg=name)
    [(images, labels)] = run.datamodule.val_dataloader()
    answers = pc.load(tmp_path / PACKED, small_cnn(1, 4))(images)
    assert (answers.argmax(1) == labels).double().mean() == pytest.approx(run.model.curve[-1]["accuracy"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer": 3}, "trainer is a group of options"),
        ({"trainer": None}, "trainer is a group of options"),
        ({"model": {"sharpening": 3}}, "model.sharpening is a group"),
        ({"checkpoint": 3}, "checkpoint is a group"),
        ({"trainer": {"accelerator": "cpu", "devices": "abc"}}, "devices.* Say what this machine has"),
        ({"trainer": {"accelerator": "cpu", "max_epochs": -7}}, "max_epochs(?!.*Say what)"),
    ],
)  # fmt: skip
def test_wrong_options_are_errors_of_the_user(options, message):
    with pytest.raises(UsageError, match=message):
        Configured({"data": "Digits", **options})


def test_nested_options_override_the_files_that_they_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("first.yaml").write_text("data: Digits\ntrainer: {max_epochs: 3, accelerator: cpu, logger: false}\n")
    Path("second.yaml").write_text("trainer: {max_epochs: 4}\nmodel: {label_smoothing: 0.25}\n")
    files = ["first.yaml", Path("second.yaml")]
    as_strings = Configured([f"--config={file}" for file in files] + ["--trainer.max_steps=5"])
    for config, epochs in ((files, 4), (files[::-1], 3)):
        run = Configured({"trainer": {"max_steps": 5, "default_root_dir": tmp_path}, "config": config})
        assert (run.trainer.max_epochs, run.trainer.max_steps) == (epochs, 5)
        assert run.config.model == as_strings.config.model
        assert run.config.model.label_smoothing == 0.25
        assert (run.folder, run.trainer.loggers) == (tmp_path, [])
    assert Configured({"config": "first.yaml", "model": {"label_smoothing": 0.5}}).config.model.label_smoothing == 0.5
    assert Configured({"config": files[1], "data": "Digits"}).trainer.max_epochs == 4


def test_nested_options_stay_as_they_are(tmp_path):
    monitor = {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}
    plain = configuration(trainer={"callbacks": [monitor], "default_root_dir": str(tmp_path)})
    before = copy.deepcopy(plain)
    Configured(plain)
    assert plain == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "absent.yaml"}, "does not exist"),
        ({"config": ["absent.yaml"]}, "does not exist"),
        ({"config": 3}, "a path or a list of paths; got 3"),
        ({"config": [], "trainer": {"callbacks": [Averaging()]}}, "must be plain data"),
    ],
)
def test_wrong_files_in_nested_options_are_errors_of_the_user(options, message):
    with pytest.raises(UsageError, match=message):
        Configured({"data": "Digits", **options})
