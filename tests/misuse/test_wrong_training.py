"""Schedules, update rules, meters and statistics used wrongly: what is said, each time."""

import copy
import math

import pytest
import torch
from refusals import Wrong, is_refused
from subjects import binary, net, packed, rows, scheduled, sgd, stepped
from torch import nn

import proxconnect as pc
from proxconnect import theory

TAKES = "takes an nn.Module as model; got "


def rule_twice() -> None:
    model = binary("pc")
    optimizer = sgd(model)
    pc.proxquant(optimizer, model)
    pc.post_training(optimizer, model)


def rule_forgotten() -> None:
    model = binary("pc")
    optimizer, resumed = sgd(model), sgd(model)
    rule = pc.proxquant(optimizer, model)
    resumed.load_state_dict(optimizer.state_dict())
    rule.remove()
    resumed.step()


def schedule_twice() -> None:
    model = binary()
    optimizer = sgd(model)
    kept = pc.Sharpening(optimizer, model, steps=5)
    pc.Sharpening(optimizer, model, steps=5)
    kept.remove()


def step_under_hard() -> None:
    model = binary()
    with pc.hard(model):
        stepped(model)


def bop(weights: str = "bc", **options) -> pc.Bop:
    model = binary(weights)
    return pc.Bop(model.parameters(), **options)


class Stepper(torch.optim.Optimizer):
    """Somebody's optimizer, without a learning rate."""

    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.sub_(parameter.grad)


def stepper(model: nn.Module) -> Stepper:
    return Stepper(model.parameters(), {"size": 1.0})


def built_for_inference(**options) -> nn.Module:
    with torch.inference_mode():
        model = net()
    return pc.binarize(model, **options)


def health() -> dict:
    meters = pc.Meters(binary())
    meters.read()
    return meters.layers()


def entered(context) -> None:
    with context:
        pass


WRONG = {
    "schedule: before binarize": Wrong(lambda: scheduled(net()), ValueError, "call proxconnect.binarize(model) first"),
    "schedule: another model's optimizer": Wrong(
        lambda: pc.Sharpening(sgd(binary()), binary(), steps=5), ValueError, "make it from the binarized model's param"
    ),
    "schedule: model first": Wrong(
        lambda: pc.Sharpening(binary(), sgd(net()), steps=5), TypeError, "an optimizer is needed first, then the model"
    ),
    "schedule: no model": Wrong(lambda: pc.Sharpening(sgd(net()), None, steps=5), TypeError, f"{TAKES}NoneType"),
    "schedule: of a packed model": Wrong(
        lambda: pc.Sharpening(sgd(net()), packed(), steps=5), ValueError, "has no binary layer"
    ),
    "schedule: no steps": Wrong(lambda: scheduled(steps=None), ValueError, "the number of optimizer steps of the run"),
    "schedule: 0 steps": Wrong(lambda: scheduled(steps=0), ValueError, "steps must be at least 1; got 0"),
    "schedule: 1e3 steps": Wrong(lambda: scheduled(steps=1e3), TypeError, "a whole number; got 1000.0"),
    "schedule: True steps": Wrong(lambda: scheduled(steps=True), TypeError, "a whole number; got True"),
    "schedule: a loader as steps": Wrong(lambda: scheduled(steps=[rows()]), TypeError, "a whole number; got list"),
    "schedule: negative start": Wrong(lambda: scheduled(start=-1.0), ValueError, "μ > 0; got μ = -1"),
    "schedule: start in words": Wrong(lambda: scheduled(start="1"), TypeError, "start takes a number; got str"),
    "schedule: NaN at the end": Wrong(lambda: scheduled(end=math.nan), ValueError, "μ > 0; got μ = nan"),
    "schedule: falling": Wrong(lambda: scheduled(start=5.0, end=1.0), ValueError, "μ would fall from 5 to 1"),
    "schedule: start above the usual end": Wrong(lambda: scheduled(start=99.0), ValueError, "μ would fall from 99"),
    "schedule: all hold": Wrong(lambda: scheduled(hold=5), ValueError, "from 0 to steps - 1 = 4; got 5"),
    "schedule: unknown shape": Wrong(lambda: scheduled(shape="exp"), ValueError, "known are exponential, linear"),
    "schedule: unknown part": Wrong(lambda: scheduled(part="inputs"), ValueError, "known are weights, activations"),
    "schedule: a list of parts": Wrong(lambda: scheduled(part=["weights"]), ValueError, "unknown part ['weights']"),
    "schedule: no binary inputs": Wrong(
        lambda: scheduled(part="activations"), ValueError, "pass activations= to binarize(), or part='weights'"
    ),
    "schedule: constant with an end": Wrong(
        lambda: scheduled(shape="constant", steps=None, end=2.0), ValueError, "choose another shape to move it"
    ),
    "schedule: cumulative without learning rates": Wrong(
        lambda: (lambda model: pc.Sharpening(stepper(model), model, shape="cumulative"))(binary()),
        ValueError, "needs the learning rate η, and a parameter group of this Stepper has no 'lr'",
    ),
    "recorder: without learning rates": Wrong(
        lambda: (lambda model: theory.Recorder(stepper(model), model))(binary(scale=None)),
        ValueError, "needs the learning rate η, and a parameter group of this Stepper has no 'lr'",
    ),
    "schedule: of latents that cannot be trained": Wrong(
        lambda: scheduled(built_for_inference()), ValueError, "build the model outside of it, or take copy.deepcopy"
    ),
    "schedule: twice": Wrong(schedule_twice, ValueError, "call its remove() first"),
    "step: in eval": Wrong(lambda: stepped(binary().eval()), RuntimeError, "Call model.train(), zero the gradient"),
    "step: under hard": Wrong(step_under_hard, RuntimeError, "Call model.train(), zero the gradient"),
    "hard: None": Wrong(lambda: entered(pc.hard(None)), TypeError, f"hard(model) {TAKES}NoneType"),
    "soft: a list": Wrong(lambda: entered(pc.soft([net()])), TypeError, f"soft(model) {TAKES}list"),
    "full precision: a class": Wrong(
        lambda: entered(pc.full_precision(nn.Linear)), TypeError, f"full_precision(model) {TAKES}type"
    ),
    "clip: negative": Wrong(lambda: pc.clip_latents(sgd(net()), net(), -1), ValueError, "positive and finite; got -1"),
    "clip: in words": Wrong(lambda: pc.clip_latents(sgd(net()), net(), "1"), TypeError, "bound takes a number"),
    "clip: model first": Wrong(lambda: pc.clip_latents(binary(), sgd(net())), TypeError, "an optimizer is needed"),
    "clip: of a float model": Wrong(lambda: pc.clip_latents(sgd(net()), net()), ValueError, "has no binary layer"),
    "rule: of a float model": Wrong(lambda: pc.proxquant(sgd(net()), net()), ValueError, "has no binary layer"),
    "rule: of a heuristic": Wrong(
        lambda: (lambda model: pc.proxquant(sgd(model), model))(binary("bnn+")), ValueError, "binarize with a pair that"
    ),
    "schedule: an end beyond float32": Wrong(
        lambda: scheduled(end=1e12), ValueError, "2: pair 'bnn++' has a sharpness μ = 1e+12, not one from 1e-6 to 1e9"
    ),
    "schedule: a start of almost 0": Wrong(lambda: scheduled(start=1e-9), ValueError, "not one from 1e-6 to 1e9"),
    "quantizer: a sharpness beyond float32": Wrong(
        lambda: pc.Quantizer("bc", mu=1e12), ValueError, "pair 'bc' has a sharpness μ = 1e+12, not one from"
    ),
    "rule: not made again": Wrong(rule_forgotten, RuntimeError, "call proxconnect.proxquant(optimizer, model) first"),
    "bop: the state of another optimizer": Wrong(
        lambda: bop().load_state_dict(torch.optim.Adam(binary("bc").parameters()).state_dict()), ValueError,
        "was not made by a Bop of the same parameters",
    ),
    "rule: twice": Wrong(rule_twice, ValueError, "already has an update rule, proxquant: call its remove() first"),
    "rule: model first": Wrong(lambda: pc.post_training(binary(), sgd(net())), TypeError, "an optimizer is needed"),
    "bop: a float model": Wrong(lambda: pc.Bop(net().parameters()), ValueError, "call proxconnect.binarize(model"),
    "bop: unknown keyword": Wrong(lambda: bop(lr=0.1), TypeError, "'lr'"),
    "bop: an optimizer as others": Wrong(
        lambda: bop(others=sgd(net())), TypeError, "as functools.partial(torch.optim.AdamW, lr=3e-3); got SGD"
    ),
    "bop: a name as others": Wrong(lambda: bop(others="adam"), TypeError, "got str"),
    "diagnose: nothing": Wrong(lambda: pc.diagnose(), ValueError, "pass at least one reading"),
    "diagnose: a model": Wrong(lambda: pc.diagnose(binary()), TypeError, "what Meters.layers() gave after a read()"),
    "diagnose: meters": Wrong(lambda: pc.diagnose(pc.Meters(binary())), TypeError, "got Meters"),
    "diagnose: what read() gave": Wrong(
        lambda: pc.diagnose(pc.Meters(binary()).read()), TypeError, "what Meters.layers() gave after a read()"
    ),
    "diagnose: percent": Wrong(lambda: pc.diagnose(health(), progress=50), ValueError, "from 0 to 1; got 50"),
    "diagnose: loss in words": Wrong(lambda: pc.diagnose(health(), loss="a"), TypeError, "loss takes a number"),
    "statistics: no model": Wrong(
        lambda: pc.reestimate_batchnorm([rows()], binary()), TypeError, f"(model, batches) {TAKES}list"
    ),
    "statistics: one tensor": Wrong(
        lambda: pc.reestimate_batchnorm(binary(), rows()), TypeError, "as a loader or [images]; got Tensor"
    ),
    "statistics: no batches": Wrong(
        lambda: pc.reestimate_batchnorm(binary(), None), TypeError, "as a loader or [images]; got NoneType"
    ),
    "statistics: an empty loader": Wrong(
        lambda: pc.reestimate_batchnorm(binary(), []), ValueError, "cannot be estimated without data"
    ),
    "penalty: no accumulator": Wrong(
        lambda: pc.OverflowPenalty(binary()), ValueError, "pass accumulator=Accumulator(bits=8) and activations"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_use_in_training_is_refused(name):
    is_refused(WRONG[name])


@pytest.mark.parametrize(("gamma", "words"), [("a", "gamma takes a number"), (2.0, "at most 1; got 2.0")])
def test_wrong_numbers_of_bop_are_refused(gamma, words):
    model = binary("bc")
    is_refused(Wrong(lambda: pc.Bop(model.parameters(), gamma=gamma), TypeError if gamma == "a" else ValueError, words))


def test_a_constant_sharpness_may_be_above_the_usual_end():
    assert scheduled(shape="constant", steps=None, start=99.0).progress == 0


def test_an_optimizer_needs_no_learning_rate_where_none_is_used():
    model = binary()
    optimizer = stepper(model)
    schedule = pc.Sharpening(optimizer, model, steps=2)
    pc.clip_latents(optimizer, model)
    model(rows()).sum().backward()
    optimizer.step(closure=None)
    assert schedule.step_count == 1


def test_what_was_built_for_inference_packs_and_its_copy_trains():
    model = built_for_inference(scale="learned")
    expected = pc.pack(model.eval(), example=rows())(rows(count=2)).shape
    assert expected == (2, 4)
    scheduled(copy.deepcopy(model).train())
    stepped(copy.deepcopy(model).train())


def test_what_was_binarized_for_inference_trains():
    model = net()
    with torch.inference_mode():
        pc.add_thresholds(pc.binarize(model, "bnn++", "bnn", scale="learned"))
    stepped(model)


def test_an_optimizer_made_before_binarize_holds_the_same_latents():
    """What a user may fear is wrong, and is not."""
    model = net()
    optimizer = sgd(model)
    pc.binarize(model)
    pc.Sharpening(optimizer, model, steps=1)
    before = model[2].latent.detach().clone()
    model(rows()).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model[2].latent)
