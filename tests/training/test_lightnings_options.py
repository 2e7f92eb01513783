"""Options of Lightning's Trainer that change how a binary network computes or which weights are kept."""

from functools import partialmethod

import lightning
import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect.layers import BinaryLayer
from proxconnect.training.configuration import Configured, UsageError
from proxconnect.training.models.residual import small_cnn
from proxconnect.training.runs import PACKED
from training.small_runs import TRANSFORMER, finish

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")


def parameters(run):
    return dict(run.model.network.named_parameters())


def test_mixed_precision_keeps_latents_and_mu_in_float32_and_trains(tmp_path):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, _, output: seen.append(output.dtype) if isinstance(module, BinaryLayer) else None
    )
    run = finish(tmp_path, trainer={"precision": "bf16-mixed"})
    handle.remove()
    assert set(seen) == {torch.bfloat16, torch.float32}  # in training, and in packing
    assert {parameter.dtype for parameter in parameters(run).values()} == {torch.float32}
    assert run.model.curve[1]["loss"] < 0.9 * run.model.curve[0]["loss"]


def test_a_compiled_network_trains_as_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))  # others are slow
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    one_block = TRANSFORMER | {"options": TRANSFORMER["options"] | {"depth": 1}}
    model = {"network": one_block, "optimizer": sgd}
    compiled = finish(tmp_path / "compiled", model=model | {"compile": True}, trainer={"max_epochs": 1})
    assert compiled.model.network._compiled_call_impl is not None
    other = finish(tmp_path / "other", model=model, trainer={"max_epochs": 1})
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
