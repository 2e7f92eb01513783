"""bfloat16 autocast on the CPU, against the same run in float32."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from stacks.nets import batches, net_and_optimizer, scheduled, sharpnesses, train

BFLOAT16_EPS = torch.finfo(torch.bfloat16).eps


class Autocast(nn.Module):
    """A model that runs under autocast, as in a training loop that wraps the forward pass in it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(images)


def test_latents_weights_and_gradients_stay_float32():
    model, optimizer, _ = net_and_optimizer()
    outputs = []
    model[5].register_forward_hook(lambda layer, inputs, output: outputs.append((output.dtype, layer.weight.dtype)))
    train(Autocast(model), optimizer, batches(1))
    assert outputs == [(torch.bfloat16, torch.float32)]
    for layer in (model[2], model[5]):
        assert layer.latent.dtype == layer.latent.grad.dtype == layer.weight_quantizer.mu.dtype == torch.float32


def test_the_first_step_is_that_of_float32_to_the_precision_of_bfloat16():
    model, optimizer, _ = net_and_optimizer()
    precise, its_optimizer, _ = net_and_optimizer()
    rounded, exact = train(Autocast(model), optimizer, batches(1)), train(precise, its_optimizer, batches(1))
    assert rounded == pytest.approx(exact, rel=BFLOAT16_EPS)
    assert rounded != exact
    for i in (2, 5):
        error = torch.linalg.vector_norm(model[i].latent.grad - precise[i].latent.grad)
        assert error < 4 * BFLOAT16_EPS * torch.linalg.vector_norm(precise[i].latent.grad)


def test_the_loss_falls_while_mu_moves_to_its_end():
    model, optimizer, _ = net_and_optimizer()
    losses = train(Autocast(model), optimizer, batches(1) * 40)
    assert sharpnesses(model) == pytest.approx([scheduled(40)] * 2)
    assert losses[-1] < 0.5 * losses[0]
    [(images, labels)] = batches(1)
    with torch.no_grad():
        assert float(cross_entropy(Autocast(model.eval())(images), labels)) < 0.6 * losses[0]
