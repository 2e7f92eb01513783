"""The plain loop: accumulated gradients, clipped gradients, validation between steps."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from stacks.nets import OPTIMIZERS, batches, distance, net_and_optimizer, scheduled, sharpnesses, state, train


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_four_micro_batches_make_the_step_of_the_whole_batch(name):
    [(images, labels)] = batches(1)
    model, optimizer, sharpening = net_and_optimizer(name)
    for micro_images, micro_labels in zip(images.chunk(4), labels.chunk(4), strict=True):
        (cross_entropy(model(micro_images), micro_labels) / 4).backward()
    optimizer.step()

    at_once, its_optimizer, _ = net_and_optimizer(name)
    train(at_once, its_optimizer, [(images, labels)])
    assert sharpening.step_count == 1
    assert sharpnesses(model) == pytest.approx([scheduled(1)] * 2)
    assert distance(state(model), state(at_once)) < 1e-6


def test_clipping_shortens_the_step_of_the_latents_by_their_gradients_norm():
    model, _, _ = net_and_optimizer()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    [(images, labels)] = batches(1)
    before = state(model)
    cross_entropy(model(images), labels).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    norm = sum(float(g.double().square().sum()) for g in gradients.values()) ** 0.5
    assert float(nn.utils.clip_grad_norm_(model.parameters(), norm / 2)) == pytest.approx(norm, rel=1e-6)
    optimizer.step()
    assert gradients["2.latent"].any()
    for name, gradient in gradients.items():
        torch.testing.assert_close(state(model)[name], before[name] - gradient / 2)


def test_validation_between_steps_changes_nothing():
    model, optimizer, _ = net_and_optimizer()
    undisturbed, its_optimizer, _ = net_and_optimizer()
    for batch in batches():
        train(model, optimizer, [batch])
        model.eval()
        assert torch.equal(model[5].weight, model[5].binary_weight)
        model(batch[0])
        model.train()
        assert not torch.equal(model[5].weight, model[5].binary_weight)
    train(undisturbed, its_optimizer, batches())
    assert distance(state(model), state(undisturbed)) == 0
