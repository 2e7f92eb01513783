"""The inputs of 0 and 1 of a study against their formula, and the networks of ±1 that ship in their place."""

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect._support.user_code import load
from proxconnect.training.models.residual import small_cnn
from proxconnect.training.runs import PACKED
from proxconnect.training.study import yaml_files
from training.small_runs import finish

FOLDER = Path(__file__).parents[3] / "studies" / "zero_one"

pytestmark = pytest.mark.usefixtures("in_the_repository")


def inputs(name, *arguments):
    return load(f"studies.zero_one.inputs:{name}")(*arguments)


def with_zero_one(layer, pair):
    """The layer with a threshold of ½ and the values 0 and 2a, where a = 0.8, and what gives it these values."""
    net = pc.add_thresholds(pc.binarize(nn.Sequential(layer), pair, "bnn", keep=None), start=0.5)
    technique = inputs("ZeroOne")
    technique.add_scales(list(net))
    nn.init.constant_(net[0].input_quantizer.log_scale, torch.tensor(0.8).log())
    return net, technique


def elastic(x, threshold, scale):
    """Liu 2022 (arXiv 2205.13016), with α = 2a: α·[x ≥ threshold], and the gradient of a clamp to [0, 1] of x/α."""
    units = (x - threshold) / scale
    clamped = units.clamp(-1, 1)
    return scale * (clamped + (torch.where(units >= 0, 1.0, -1.0) - clamped).detach() + 1)


@pytest.mark.parametrize("grid", ["grid.yaml", "digits/grid.yaml"])
def test_the_grids_name_classes_for_each_row_of_0_and_1(grid):
    labels = yaml_files.read(FOLDER / grid)["axes"]["inputs"]
    rows = {name: label["trainer.callbacks"] for name, label in labels.items() if name.startswith("0/1")}
    assert len(rows) == 3
    for callbacks in rows.values():
        for callback in callbacks:
            inputs(
                callback["class_path"].removeprefix("studies.zero_one.inputs."), *callback.get("init_args", {}).values()
            )


def test_a_layer_is_the_float_layer_of_elastic_inputs():
    torch.manual_seed(0)
    twin, x = nn.Conv2d(3, 4, 3, padding=1), torch.rand(2, 3, 5, 5, requires_grad=True)
    net, _ = with_zero_one(deepcopy(twin), "fp")
    shift, log_scale = net[0].input_shift.shift, net[0].input_quantizer.log_scale
    expected = twin(elastic(x, -shift.reshape(3, 1, 1), log_scale.exp()))
    torch.testing.assert_close(net(x), expected)
    of = [x, shift, log_scale]
    cotangent = torch.randn_like(expected)
    mine, theirs = (torch.autograd.grad(y, of, cotangent) for y in (net(x), expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3, padding=1), nn.Linear(5, 4)])
def test_the_layer_of_signs_at_the_end_computes_the_same(layer):
    net, technique = with_zero_one(layer, "bnn++")
    net.eval()
    x = torch.rand(2, 3, 5, 5)
    before = net(x)
    technique.on_train_end(None, net)
    torch.testing.assert_close(net(x), before)
    torch.testing.assert_close(pc.pack(net)(x), before)
    assert set(net[0].quantize_input(x).unique().tolist()) == {-1, 1}


def test_behind_batch_norm_0_and_1_are_signs_of_twice_the_sharpness_that_pads_with_minus_1():
    """Outputs and gradients: Σ w·(s + 1)/2 = (Σ w·s + Σ w)/2, and batch norm removes the factor and the constant."""
    x, results = torch.rand(6, 3, 5, 5, dtype=torch.float64, requires_grad=True), []
    for mu, padding_value in ((2.0, 0), (4.0, -1)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-30)).double()
        pc.add_thresholds(pc.binarize(net, "bnn++", "bnn+", keep=None, padding_value=padding_value), start=0.5)
        net[0].input_quantizer.mu.fill_(mu)
        if padding_value == 0:
            inputs("ZeroOne").add_scales(net[:1])
        output = net(x)
        results.append(
            (output, *torch.autograd.grad(output.pow(3).sum(), [x, net[0].latent, net[0].input_shift.shift]))
        )
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_trains_the_scales_but_no_frozen_thresholds_and_ships_what_it_trained(tmp_path):
    logits, scales, x = [], [], torch.randn(8, 1, 8, 8)

    class Recorder(load("studies.techniques.technique:Technique")):
        def on_train_end(self, trainer, module):
            scales.extend(p.item() for name, p in module.named_parameters() if name.endswith("log_scale"))
            with module.accuracies.hardened(module.calibration_batches()) as network, torch.no_grad():
                logits.append(network.eval()(x))

    binary = {"weights": "bnn++", "activations": "bnn+", "thresholds": True, "threshold_start": 0.5}
    techniques = [Recorder(), inputs("ZeroOne"), inputs("Frozen", ["input_shift.shift"])]
    run = finish(tmp_path, techniques, model={"binary": binary})
    assert len(set(scales)) == 4
    assert not any(scale == pytest.approx(math.log(0.5), abs=1e-4) for scale in scales)
    shifts = [p for name, p in run.model.named_parameters() if name.endswith("input_shift.shift")]
    assert len(shifts) == 4
    assert all(bool((shift == -0.5).all()) for shift in shifts)
    torch.testing.assert_close(pc.load(tmp_path / PACKED, small_cnn(1, 4)).eval()(x), logits[0], rtol=1e-4, atol=1e-4)
