"""Parameter groups: what filters by name or shape make of latents, and a schedule over several groups."""

import pytest
import timm.optim
import torch

from proxconnect import Sharpening
from stacks.nets import STEPS, batches, distance, net, net_and_optimizer, scheduled, sharpnesses, state, train

LATENTS = {"2.latent", "5.latent"}
MATRICES = LATENTS | {"0.weight", "7.weight"}


def names(model, parameters):
    name_of = {id(p): name for name, p in model.named_parameters()}
    return {name_of[id(p)] for p in parameters}


def test_filters_for_the_name_weight_miss_the_latents():
    parameters = dict(net().named_parameters())
    assert {name for name in parameters if name.endswith("weight")} == MATRICES - LATENTS
    assert {name for name in parameters if name.endswith(("weight", "latent"))} == MATRICES
    assert {name for name, p in parameters.items() if p.dim() >= 2} == MATRICES
    assert {name for name in parameters if "bias" not in name} == MATRICES


def test_timm_decays_the_latents_as_it_does_weights():
    model = net()
    groups = timm.optim.param_groups_weight_decay(model, weight_decay=0.1)
    decayed = {name for g in groups if g["weight_decay"] for name in names(model, g["params"])}
    assert decayed == MATRICES


def test_each_group_has_its_learning_rate_and_one_schedule_moves_all_latents():
    model = net()
    groups = [
        {"params": [p for n, p in model.named_parameters() if n not in LATENTS]},
        {"params": [model[2].latent], "lr": 0.3},
        {"params": [model[5].latent], "lr": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    Sharpening(optimizer, model, steps=STEPS)
    before = state(model)
    train(model, optimizer, batches(1))
    after = state(model)
    for name, rate in (("0.weight", 0.1), ("2.latent", 0.3), ("5.latent", 0.0)):
        gradient = model.get_parameter(name).grad
        assert gradient.any()
        torch.testing.assert_close(after[name], before[name] - rate * gradient)
    assert sharpnesses(model) == pytest.approx([scheduled(1)] * 2)


def test_groups_of_equal_settings_train_as_one_group():
    whole, its_optimizer, _ = net_and_optimizer("SGD")
    model = net()
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.1, momentum=0.9)
    Sharpening(optimizer, model, steps=STEPS)
    for m, o in ((whole, its_optimizer), (model, optimizer)):
        train(m, o, batches())
    assert distance(state(model), state(whole)) == 0


def test_a_group_of_latents_added_later_is_stepped_and_its_mu_not_scheduled():
    model = net()
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if n != "5.latent"], lr=0.1)
    Sharpening(optimizer, model, steps=STEPS)
    optimizer.add_param_group({"params": [model[5].latent]})
    before = state(model)["5.latent"]
    train(model, optimizer, batches(1))
    assert not torch.equal(model[5].latent, before)
    assert sharpnesses(model) == pytest.approx([scheduled(1), scheduled(0)])
    with pytest.warns(UserWarning, match="which nothing moves"):
        model.eval()
