"""Accelerate: prepared optimizers, accumulated gradients and saved states."""

import accelerate
import pytest
from torch.nn.functional import cross_entropy

from proxconnect import Sharpening, clip_latents
from stacks.nets import (
    OPTIMIZERS,
    STEPS,
    batches,
    distance,
    net,
    net_and_optimizer,
    scheduled,
    sharpnesses,
    state,
    train,
)

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def accelerator_on_cpu(**arguments):
    return accelerate.Accelerator(cpu=True, **arguments)


def prepared(accelerator, seed=0):
    """A net and its optimizer that Accelerate prepared, with a schedule on the optimizer that it wraps."""
    model, optimizer, sharpening = net_and_optimizer(seed=seed)
    return *accelerator.prepare(model, optimizer), sharpening


def train_accumulating(accelerator, model, optimizer, data):
    for images, labels in data:
        with accelerator.accumulate(model):
            accelerator.backward(cross_entropy(model(images), labels))
            optimizer.step()
            optimizer.zero_grad()


def test_a_prepared_net_trains_as_the_plain_loop_and_accumulation_counts_steps():
    accelerator = accelerator_on_cpu(gradient_accumulation_steps=2)
    model, optimizer, sharpening = prepared(accelerator)
    micro_batches = [
        part for images, labels in batches(3) for part in zip(images.chunk(2), labels.chunk(2), strict=True)
    ]
    train_accumulating(accelerator, model, optimizer, micro_batches)
    plain, its_optimizer, _ = net_and_optimizer()
    train(plain, its_optimizer, batches(3))
    assert sharpening.step_count == 3
    assert sharpnesses(model) == pytest.approx([scheduled(3)] * 2)
    assert distance(state(model), state(plain)) < 1e-6


def test_a_saved_state_brings_mu_back_and_goes_on_as_unbroken(tmp_path):
    accelerator, data = accelerator_on_cpu(), batches()
    model, optimizer, _ = prepared(accelerator)
    train_accumulating(accelerator, model, optimizer, data[:2])
    accelerator.save_state(tmp_path)
    train_accumulating(accelerator, model, optimizer, data[2:])

    accelerator.free_memory()
    fresh, its_optimizer, sharpening = prepared(accelerator, seed=1)
    accelerator.load_state(tmp_path)
    assert sharpening.step_count == 2
    assert sharpnesses(fresh) == pytest.approx([scheduled(2)] * 2)
    train_accumulating(accelerator, fresh, its_optimizer, data[2:])
    assert distance(state(fresh), state(model)) == 0


def test_the_optimizer_that_a_prepared_one_wraps_takes_a_schedule():
    model = net()
    model, optimizer = accelerator_on_cpu().prepare(model, OPTIMIZERS["AdamW"](model.parameters()))
    Sharpening(optimizer.optimizer, model, steps=STEPS)
    train(model, optimizer, batches(2))
    assert sharpnesses(model) == pytest.approx([scheduled(2)] * 2)


def test_a_prepared_optimizer_takes_a_schedule_and_a_clamp():
    model = net()
    model, optimizer = accelerator_on_cpu().prepare(model, OPTIMIZERS["AdamW"](model.parameters()))
    Sharpening(optimizer, model, steps=STEPS)
    clip_latents(optimizer, model, 0.05)
    train(model, optimizer, batches(2))
    assert sharpnesses(model) == pytest.approx([scheduled(2)] * 2)
    assert model[5].latent.abs().max().item() == pytest.approx(0.05)
