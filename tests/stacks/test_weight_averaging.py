"""Averages of the weights over time (EMA, SWA): what becomes of latents and μ, and that the average ships.

The average is one of latents. Without buffers torch lets the copy's μ follow the live model's; with them μ is averaged
too, so that the copy in `train()` is softer than the live model. `eval()` is hard: what ships depends on no μ.
"""

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from proxconnect import hard, hard_state_dict, pack, reestimate_batchnorm
from proxconnect.layers import BinaryLinear
from shipping import assert_ships
from stacks.nets import batches, float_net, net_and_optimizer, scheduled, sharpnesses, state, train


def run_averaged(steps=5, **choices):
    """The averaged model and the live model's state after each step."""
    model, optimizer, _ = net_and_optimizer()
    averaged, states = AveragedModel(model, **choices), []
    for batch in batches(steps):
        train(model, optimizer, [batch])
        averaged.update_parameters(model)
        states.append(state(model))
    return averaged, states


def test_swa_is_the_mean_of_the_latents_and_its_mu_follows_the_live_model():
    averaged, states = run_averaged()
    for name in ("2.latent", "5.latent", "0.weight"):
        mean = torch.stack([s[name].double() for s in states]).mean(0).float()
        torch.testing.assert_close(state(averaged.module)[name], mean, atol=1e-6, rtol=0)
    assert sharpnesses(averaged) == pytest.approx([scheduled(5)] * 2)


def test_swa_with_buffers_averages_mu_too_which_leaves_the_copy_softer():
    averaged, _ = run_averaged(use_buffers=True)
    mean = sum(scheduled(t) for t in range(1, 6)) / 5
    assert sharpnesses(averaged) == pytest.approx([mean] * 2)
    assert mean < scheduled(5)


def test_ema_is_the_decayed_sum_of_the_latents_and_of_mu():
    averaged, states = run_averaged(multi_avg_fn=get_ema_multi_avg_fn(0.6), use_buffers=True)
    for name in ("2.latent", "5.weight_quantizer.mu"):
        expected = states[0][name]
        for later in states[1:]:
            expected = 0.6 * expected + 0.4 * later[name]
        torch.testing.assert_close(state(averaged.module)[name], expected)


def test_timm_ema_keeps_a_net_of_averaged_latents():
    model, optimizer, _ = net_and_optimizer()
    averaged, expected = ModelEmaV3(model, decay=0.6), state(model)["2.latent"]
    for batch in batches():
        train(model, optimizer, [batch])
        averaged.update(model)
        expected = 0.6 * expected + 0.4 * model[2].latent.detach()
    torch.testing.assert_close(state(averaged.module)["2.latent"], expected)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_what_ships_are_the_signs_of_the_averaged_latents_whatever_the_averaged_mu(use_buffers):
    averaged, states = run_averaged(use_buffers=use_buffers)
    shipped = float_net()
    shipped.load_state_dict(hard_state_dict(averaged.module))
    latent = torch.stack([s["5.latent"] for s in states]).mean(0)
    signs = torch.where(latent >= 0, 1.0, -1.0)
    torch.testing.assert_close(shipped[5].weight, latent.abs().mean(1, keepdim=True) * signs)
    [(images, _)] = batches(1)
    answers = averaged.eval()(images)
    torch.testing.assert_close(shipped(images), answers)
    assert_ships(pack(averaged.module)(images), answers, signs=False)


def test_batch_norm_of_the_average_is_estimated_with_its_hard_weights():
    model = nn.Sequential(nn.Linear(6, 6), BinaryLinear(6, 4), nn.BatchNorm1d(4))
    averaged, x = AveragedModel(model), torch.randn(32, 6)
    averaged.update_parameters(model)
    reestimate_batchnorm(averaged.module, [x])
    with hard(averaged.module), torch.no_grad():
        hidden = averaged.module[:2](x)
    torch.testing.assert_close(averaged.module[2].running_mean, hidden.mean(0))
    torch.testing.assert_close(averaged.module[2].running_var, hidden.var(0))
