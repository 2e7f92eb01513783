"""Every optimizer of torch: latents move, μ follows its schedule, and what comes out can ship."""

import pytest
import timm.optim
import torch
from torch.nn.functional import cross_entropy

from proxconnect import Sharpening, pack
from shipping import assert_ships
from stacks.nets import STEPS, batches, net, scheduled, sharpnesses, state, train

EXCLUDED = {
    "Optimizer": "the base class",
    "SparseAdam": "it takes sparse gradients only, and the gradient of a latent is dense",
}
ARGUMENTS = {"SGD": {"lr": 0.1}, "LBFGS": {"max_iter": 3}}
MATRICES_ONLY = {"Muon"}

OPTIMIZERS = sorted(name for name in vars(torch.optim) if isinstance(vars(torch.optim)[name], type))


def with_closures(model, optimizer, data):
    for images, labels in data:

        def closure(images=images, labels=labels):
            optimizer.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            return loss

        optimizer.step(closure)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in EXCLUDED])
def test_it_trains_a_binary_net(name):
    model = net()
    parameters = [model[5].latent] if name in MATRICES_ONLY else model.parameters()
    optimizer = getattr(torch.optim, name)(parameters, **ARGUMENTS.get(name, {}))
    Sharpening(optimizer, model, steps=STEPS)
    before = state(model)
    with_closures(model, optimizer, batches())
    after = state(model)
    assert all(tensor.isfinite().all() for tensor in after.values())
    moved = {key for key in before if key.endswith("latent") and not torch.equal(before[key], after[key])}
    assert moved == ({"5.latent"} if name in MATRICES_ONLY else {"2.latent", "5.latent"})
    assert sharpnesses(model)[1] == pytest.approx(scheduled(5))

    [(images, _)] = batches(1)
    answers = model.eval()(images)
    assert answers.isfinite().all()
    assert_ships(pack(model)(images), answers, signs=False)


def test_a_schedule_moves_mu_under_an_optimizer_that_wraps_another():
    model = net()
    optimizer = timm.optim.create_optimizer_v2(model, "lookahead_adamw", lr=0.01)
    Sharpening(optimizer, model, steps=STEPS)
    train(model, optimizer, batches())
    assert sharpnesses(model) == pytest.approx([scheduled(5)] * 2)
