"""Every trouble provoked in a small run, and none seen in runs that go well."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from proxconnect import PAIRS, Accumulator, Meters, Sharpening, binarize, diagnose
from proxconnect.inspection.diagnosis import DEAD, SOFT, STILL, Trouble

STEPS = 24


class Run:
    """A small network that learns which quarter of the plane two of its 16 inputs are in."""

    def __init__(self, lr: float = 0.01, **choices) -> None:
        layers = [(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Tanh()) for _ in range(3)]
        model = nn.Sequential(nn.Linear(16, 64), *(part for layer in layers for part in layer), nn.Linear(64, 4))
        self.model = binarize(model, **choices)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.meters = Meters(self.model)
        self.meters.read()
        self.loss = 0.0

    def train(self, steps: int, size: float = 1.0) -> "Run":
        for _ in range(steps):
            x = torch.randn(32, 16)
            labels = 2 * (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
            loss = cross_entropy(self.model(size * x), labels)
            self.optimizer.zero_grad(), loss.backward(), self.optimizer.step()
            self.loss = loss.item()
        self.meters.read()
        return self

    def troubles(self, progress: float | None = 0.25) -> list[Trouble]:
        return diagnose(self.meters.layers(), loss=self.loss, progress=progress)


def only(troubles: list[Trouble], *whats: str) -> None:
    assert len(troubles) == len(whats), [str(trouble) for trouble in troubles]
    for trouble, what in zip(troubles, whats, strict=True):
        assert what in trouble.what
        assert str(trouble) == f"{trouble.what} {trouble.advice}"


@pytest.mark.parametrize("pair", [name for name in PAIRS if name != "fp"])
def test_nothing_is_wrong_with_a_run_by_the_usual_range(pair):
    run = Run(weights=pair, activations="poly", accumulator=Accumulator(8))
    Sharpening(run.optimizer, run.model, steps=STEPS)
    for done in range(0, STEPS, 6):
        only(run.train(6).troubles((done + 6) / STEPS))


def test_a_loss_and_latents_that_are_lost_are_told_and_nothing_else():
    run = Run(lr=1e30).train(3)
    only(run.troubles(), "The loss is nan", "Latents of all 3 binary layers (1, 4, 7) are NaN or infinite")


def test_inputs_that_are_lost_are_told():
    run = Run(activations="poly", lr=0.0)
    run.model.eval()
    run.model(torch.full((2, 16), torch.nan))
    run.meters.read()
    only(run.troubles(None)[:1], "Inputs of all 3 binary layers (1, 4, 7) are NaN")
    assert not any("one sign" in trouble.what for trouble in run.troubles(None))


def test_a_sharp_start_leaves_no_gradient():
    run = Run(weights="poly+")
    Sharpening(run.optimizer, run.model, steps=STEPS, start=1e4, end=1e5)
    troubles = run.train(4).troubles()
    only(troubles, "too sharp too early", "No signs flip in all 3 binary layers")
    assert "lower μ" in troubles[0].advice
    only(run.troubles(1.0))
    only(run.troubles(None), "too sharp too early", "No signs flip")


def test_latents_beyond_the_clip_of_bnn_are_to_be_clipped():
    run = Run(weights="bnn", scale=None)
    for layer in (run.model[1], run.model[4]):
        layer.latent.data.sign_().mul_(2)
    troubles = run.train(2).troubles()
    only(
        troubles,
        "Weights of 2 of 3 binary layers (1, 4) get no gradient, since their latents lie",
        "No signs flip",
    )
    assert "clip_latents" in troubles[0].advice
    assert troubles[0].layers == troubles[1].layers == ("1", "4")


def test_signs_that_never_flip_are_told_early_and_by_a_whole_epoch():
    run = Run(lr=1e-9)
    readings = [run.train(1).meters.layers() for _ in range(3)]
    only(diagnose(*readings, progress=0.5), "No signs flip in all 3 binary layers (1, 4, 7).")
    only(diagnose(*readings, progress=0.51))
    readings[0]["4"] = replace(readings[0]["4"], flip_rate=STILL)
    assert diagnose(*readings)[0].layers == ("1", "7")


def test_weights_and_inputs_that_stay_soft_are_told_at_the_end():
    run = Run(weights="bnn++", activations="bnn++").train(2)
    only(run.troubles(0.9))
    only(run.troubles(None))
    only(
        run.troubles(1.0),
        "Weights of all 3 binary layers (1, 4, 7) are still soft",
        "Inputs of all 3 binary layers (1, 4, 7) are",
    )


def test_sums_that_overflow_are_told():
    run = Run(weights="bc", activations="poly", accumulator=Accumulator(3)).train(4)
    only(run.troubles(1.0), "More than 5% of the sums of all 3 binary layers")


def test_inputs_beyond_the_reach_of_their_pair_are_told():
    run = Run(weights="bc", activations="poly").train(2, size=1e3)
    only(run.troubles(), "binary inputs of 1 of 3 binary layers (1)")


@pytest.mark.filterwarnings("ignore:.*one sign only")
def test_inputs_behind_a_relu_are_told_at_any_time():
    run = Run(weights="bc", activations="bnn")
    run.model[6] = nn.ReLU()
    readings = [run.train(2).meters.layers() for _ in range(2)]
    for progress in (0.1, 1.0, None):
        (trouble,) = diagnose(*readings, progress=progress)
        assert trouble.layers == ("7",)
        assert "Binary inputs of 1 of 3 binary layers (7) have one sign only" in trouble.what
        assert "Put batch norm, PReLU or Hardtanh before" in trouble.advice
    readings[0]["7"] = replace(readings[0]["7"], input_positive_share=0.0)  # negative once, positive later
    only(diagnose(*readings))


def test_numbers_at_the_thresholds():
    health = replace(Run(weights="bc").train(2).meters.layers()["1"], dead_share=DEAD, softness=SOFT)
    only(diagnose({"a": health}, progress=0.1), "Weights of the only binary layer get no gradient")
    only(diagnose({"a": health}, progress=1.0))


def test_what_is_no_reading_is_refused():
    with pytest.raises(ValueError, match="at least one reading"):
        diagnose()
    with pytest.raises(ValueError, match="from 0 to 1"):
        diagnose({}, progress=1.5)
    assert diagnose({}) == []
