"""GradScaler, whose scale is a power of two and so leaves no trace: a run with it against a run without."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from proxconnect import Sharpening
from stacks.nets import OPTIMIZERS, STEPS, batches, distance, net, scheduled, sharpnesses, state, train

every_kind = pytest.mark.parametrize(("name", "fused"), [(n, f) for n in OPTIMIZERS for f in (False, True)])


def train_scaled(model, optimizer, data, overflowing=(), largest_norm=None):
    """As `train`, under a scaler, with an infinite loss in the steps `overflowing`."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for i, (images, labels) in enumerate(data):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels) * (math.inf if i in overflowing else 1.0)
        scaler.scale(loss).backward()
        if largest_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), largest_norm)
        scaler.step(optimizer)
        scaler.update()


def scheduled_net(name, fused):
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters(), fused=fused)
    return model, optimizer, Sharpening(optimizer, model, steps=STEPS)


@every_kind
def test_a_step_with_an_infinite_gradient_is_as_if_it_had_not_been(name, fused):
    data = batches()
    model, optimizer, sharpening = scheduled_net(name, fused)
    train_scaled(
        model, optimizer, data, overflowing={1, 3}
    )  # fused SGD leaves its momentum uninitialised in a skipped first step
    twin, its_optimizer, _ = scheduled_net(name, fused)
    train(twin, its_optimizer, data[::2])
    assert sharpening.step_count == 3
    assert sharpnesses(model) == pytest.approx([scheduled(3)] * 2)
    assert distance(state(model), state(twin)) == 0


@every_kind
def test_gradients_unscaled_for_clipping_are_skipped_alike(name, fused):
    data = batches()
    model, optimizer, _ = scheduled_net(name, fused)
    train_scaled(model, optimizer, data, overflowing={1}, largest_norm=1e9)
    twin, its_optimizer, _ = scheduled_net(name, fused)
    train(twin, its_optimizer, [data[0], *data[2:]])
    assert distance(state(model), state(twin)) == 0
