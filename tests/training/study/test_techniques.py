"""Each technique of the ablation does what it says: one that did nothing would look like one that gains nothing."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect._support.user_code import load
from proxconnect.layers.modes import soft
from proxconnect.training.models.residual import small_cnn
from proxconnect.training.runs import PACKED
from proxconnect.training.study import yaml_files
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of
from training.small_runs import finish

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "studies" / "techniques"

pytestmark = pytest.mark.usefixtures("in_the_repository")


def technique(path, **options):
    return load(f"studies.techniques.{path}")(**options)


def layers(count=3, pair="bnn++", inputs=None):
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Linear(24, 24, bias=False) for _ in range(count)])
    return list(pc.binarize(net, pair, inputs, keep=None))


def act(method, *arguments):
    with torch.no_grad():
        method(*arguments)


def test_the_grids_name_a_class_or_an_option_for_each_technique():
    axes = yaml_files.read(FOLDER / "axes.yaml")
    changes = {name: label for name, label in axes["technique"].items() if name not in ("none", "plain")}
    assert all(changes.values())
    for label in changes.values():
        for callback in label.get("trainer.callbacks", []):
            module, _, name = callback["class_path"].rpartition(".")
            load(f"{module}:{name}")()


def test_the_confirmation_has_what_the_screening_passed_and_other_seeds():
    screening, confirmation = (
        [row.labels for row in rows_of(Grid.read(FOLDER / f"{name}.yaml"))] for name in ("screening", "confirmation")
    )
    with (FOLDER / "differences.csv").open(newline="", encoding="utf-8") as file:
        gains = [line for line in csv.DictReader(file) if line["other"] == "plain"]
    passed = {line["one"] for line in gains if float(line["mean"]) >= 0.002}
    assert {labels["technique"] for labels in confirmation} - {"none", "plain", "decay"} == passed
    assert not {labels["seed"] for labels in screening} & {labels["seed"] for labels in confirmation}


def test_a_run_calls_techniques_around_each_step_trains_the_scales_of_inputs_and_packs_without_them(tmp_path):
    calls, decays, scales, logits, x = [], [], [], [], torch.randn(8, 1, 8, 8)
    base = load("studies.techniques.technique:Technique")

    class Recorder(base):
        def on_train_batch_end(self, trainer, module, *batch):
            super().on_train_batch_end(trainer, module, *batch)
            decays.append(trainer.optimizers[0].param_groups[0]["weight_decay"])

        def before_step(self, layers, share):
            calls.append(("before", round(6 * share), len(layers)))

        def after_step(self, layers, share):
            calls.append(("after", round(6 * share), len(layers)))
            scales.append([layer.input_quantizer.log_scale.item() for layer in layers])

        def on_train_end(self, trainer, module):
            with module.accuracies.hardened(module.calibration_batches()) as network, torch.no_grad():
                logits.append(network.eval()(x))

    techniques = [Recorder(), technique("latents:DecayFirst", decay=0.5), technique("inputs:ElasticInputs")]
    model = {"binary": {"weights": "bnn++", "activations": "bnn+"}}
    run = finish(tmp_path, techniques, model=model)
    steps = [call for step in range(6) for call in (("before", step, 4), ("after", step + 1, 4))]
    assert calls == [("after", 0, 4), *steps]
    assert decays == [0.5] * 3 + [0.0] * 3
    assert not any(scales[0])
    assert all(scales[-1])
    assert not any("log_scale" in name for name, _ in run.model.network.named_parameters())
    torch.testing.assert_close(pc.load(tmp_path / PACKED, small_cnn(1, 4)).eval()(x), logits[0], rtol=1e-4, atol=1e-4)


def test_balanced_latents_have_mean_0_and_the_same_deviation_in_each_channel():
    (layer,) = layers(1)
    before = layer.latent.detach().clone()
    act(technique("latents:Balanced", std=0.3).after_step, [layer], 0.5)
    deviations = before - before.mean(1, keepdim=True)
    assert torch.equal(layer.latent.sign(), deviations.sign())
    torch.testing.assert_close(layer.latent.mean(1), torch.zeros(24), atol=1e-6, rtol=0)
    torch.testing.assert_close(layer.latent.square().sum(1), torch.full((24,), 0.09 * 23))


def test_the_late_pull_takes_its_share_of_the_distance_from_the_hard_weights():
    (layer,) = layers(1)
    before, hard = layer.latent.detach().clone(), layer.binary_weight
    pull = technique("latents:LatePull", rate=0.25, since=0.5)
    act(pull.after_step, [layer], 0.5)
    assert torch.equal(layer.latent, before)
    act(pull.after_step, [layer], 0.75)
    torch.testing.assert_close(layer.latent - hard, 0.75 * (before - hard))


def test_quantile_clamps_move_the_outermost_latents_alone():
    (layer,) = layers(1)
    before = layer.latent.detach().clone()
    act(technique("latents:QuantileClamp", start=0.8, end=0.9).after_step, [layer], 1.0)
    rank = before.flatten().argsort().argsort().reshape(before.shape)
    inner = (rank >= 58) & (rank < 576 - 58)  # a tenth of 576 at each end
    assert torch.equal(layer.latent[inner], before[inner])
    assert not (layer.latent == before)[~inner].any()
    assert layer.latent[~inner].unique().numel() == 2


def test_sharpening_in_order_begins_at_the_input():
    schedule = technique("sharpness:SharpenInOrder", start=1.0, end=16.0, hold=0.1, window=0.3)
    net = layers(3)
    assert [schedule.sharpnesses(net, share)[0] for share in (0.0, 0.15, 0.3)] == pytest.approx([1, 4, 16])
    assert [schedule.sharpnesses(net, share)[2] for share in (0.6, 0.75, 0.9)] == pytest.approx([1, 4, 16])
    act(schedule.before_step, net, 0.45)
    assert [float(layer.weight_quantizer.mu) for layer in net] == pytest.approx([16, 4, 1])


def test_sharpening_by_magnitude_gives_the_latents_themselves_one_sharpness():
    net = layers(2)
    with torch.no_grad():
        net[1].latent.mul_(4.0)
    schedule = technique("sharpness:SharpenByMagnitude", start=1.0, end=16.0, hold=0.0)
    one, other = schedule.sharpnesses(net, 0.5)
    magnitudes = [layer.latent.abs().mean().item() for layer in net]
    assert other / one == pytest.approx(magnitudes[1] / magnitudes[0])
    assert one * other == pytest.approx(16)


def test_sharpening_by_softness_lets_the_energy_that_hardening_loses_fall_linearly():
    net = layers(2)
    with torch.no_grad():
        net[1].latent.mul_(net[1].latent.abs())  # which has more latents near 0
    schedule = technique("sharpness:SharpenBySoftness", hold=0.0, softness=0.02)

    def lost(layer):
        weight, hard = layer.weight.detach(), layer.binary_weight
        return float(1 - (weight * hard).sum() ** 2 / (weight.square().sum() * hard.square().sum()))

    for layer in net:
        layer.weight_quantizer.mu.fill_(0.1)
    first = [lost(layer) for layer in net]
    act(schedule.before_step, net, 0.5)
    for layer, start in zip(net, first, strict=True):
        assert lost(layer) == pytest.approx((start + 0.02) / 2, abs=0.03)
    act(schedule.before_step, net, 1.0)
    assert all(0.005 < lost(layer) < 0.04 for layer in net)


def test_sharpening_in_two_phases_waits_and_then_rises():
    schedule = technique("sharpness:SharpenInTwoPhases", start=1.0, end=16.0, hold=0.2, since=0.4)
    (layer,) = layers(1)
    found = [schedule.sharpnesses([layer], share)[0] for share in (0.0, 0.4, 0.6, 0.8, 1.0)]
    assert found == pytest.approx([1, 1, 4, 16, 16])


def test_freezing_makes_the_first_layers_hard_and_a_part_of_the_next_with_the_same_gradient():
    net = layers(3)
    for layer in net:
        layer.weight_quantizer.mu.fill_(1.0)
    before = [layer.weight.detach() for layer in net]
    net[1].weight.sum().backward()
    gradient = net[1].latent.grad.clone()
    freezing = technique("freezing:Freezing", hold=0.0)
    freezing.watch(net)
    freezing.before_step(net, 0.5)
    net[1].latent.grad = None
    first, second, third = (layer.weight for layer in net)
    second.sum().backward()
    torch.testing.assert_close(first, net[0].binary_weight)
    assert torch.equal(third, before[2])
    hard = torch.isclose(second, net[1].binary_weight)
    assert 0.4 < hard.float().mean() < 0.6
    torch.testing.assert_close(second[~hard], before[1][~hard])
    torch.testing.assert_close(net[1].latent.grad, gradient)


def test_freezing_acts_on_soft_inputs_and_in_training_alone():
    (layer,) = layers(1, inputs="bnn++")
    freezing = technique("freezing:Freezing")
    freezing.watch([layer])
    freezing.before_step([layer], 1.0)
    x = torch.randn(4, 24)
    assert torch.equal(layer.quantize_input(x).abs(), torch.ones(4, 24))
    with soft(layer.eval()):
        assert not torch.isclose(layer.quantize_input(x).abs(), torch.ones(4, 24)).all()


def test_batch_norm_absorbs_the_scale_of_hard_inputs_but_not_the_width_of_their_gradient():
    layer, norm = layers(1, inputs="bnn+")[0], nn.BatchNorm1d(24)
    x = torch.randn(64, 24)
    plain = norm(layer(x))
    technique("inputs:ElasticInputs").add_scales([layer])
    scale = layer.input_quantizer.log_scale
    gradients = []
    for value in (0.0, 1.0):
        with torch.no_grad():
            scale.fill_(value)
        inputs = x.clone().requires_grad_()
        torch.testing.assert_close(layer.quantize_input(x), scale.exp() * (2.0 * (x >= 0) - 1))
        output = norm(layer(inputs))
        torch.testing.assert_close(output, plain, rtol=1e-4, atol=1e-4)
        output[:, 0].square().mul(inputs.detach()[:, 0]).sum().backward()
        gradients.append(inputs.grad)
        assert scale.grad.abs() > 0
    assert not torch.allclose(*gradients, rtol=0.1)
