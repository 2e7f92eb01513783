"""Schedule-free optimizers, which swap the latents in place between train() and eval()."""

import pytest
import schedulefree
import torch

from proxconnect import Sharpening
from stacks.nets import STEPS, batches, distance, net, scheduled, sharpnesses, state, train


def scheduled_net(kind):
    model = net()
    optimizer = kind(model.parameters(), lr=0.05)
    Sharpening(optimizer, model, steps=STEPS)
    optimizer.train()
    return model, optimizer


@pytest.mark.parametrize("kind", [schedulefree.AdamWScheduleFree, schedulefree.SGDScheduleFree])
def test_what_is_evaluated_are_the_signs_of_the_averaged_latents(kind):
    model, optimizer = scheduled_net(kind)
    layer, total, weights = model[5], 0.0, 0.0
    for batch in batches():
        train(model, optimizer, [batch])
        weight = optimizer.param_groups[0]["lr_max"] ** 2
        total += weight * optimizer.state[layer.latent]["z"]
        weights += weight
    assert sharpnesses(model) == pytest.approx([scheduled(5)] * 2)
    trained_point, average = layer.latent.detach().clone(), total / weights

    optimizer.eval()
    model.eval()
    assert not torch.equal(layer.latent, trained_point)
    torch.testing.assert_close(layer.latent.detach(), average)
    signs = torch.where(average >= 0, 1.0, -1.0)
    torch.testing.assert_close(layer.weight.detach(), average.abs().mean(1, keepdim=True) * signs)


def test_evaluating_in_between_leaves_the_training_as_it_was():
    model, optimizer = scheduled_net(schedulefree.AdamWScheduleFree)
    for batch in batches():
        train(model, optimizer, [batch])
        optimizer.eval()
        model.eval()(batch[0])
        model.train()
        optimizer.train()
    undisturbed, its_optimizer = scheduled_net(schedulefree.AdamWScheduleFree)
    train(undisturbed, its_optimizer, batches())
    assert distance(state(model), state(undisturbed)) < 1e-6


def test_the_optimizer_inside_the_wrapper_takes_the_schedule():
    model = net()
    optimizer = schedulefree.ScheduleFreeWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    sharpening = Sharpening(optimizer, model, steps=STEPS)
    optimizer.train()
    train(model, optimizer, batches())
    assert sharpening.step_count == 5
    assert sharpnesses(model) == pytest.approx([scheduled(5)] * 2)
