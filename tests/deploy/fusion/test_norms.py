"""Batch norms as one multiply-add, against torch's own."""

import pytest
import torch
from nets import folds_norms
from torch import Tensor, nn

from proxconnect.deploy.fusion.steps import can_fold, norm_affine


def norm_of(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(weight)).eval()
    norm.load_state_dict(
        {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance,
         "num_batches_tracked": torch.tensor(1)}
    )  # fmt: skip
    return norm


def fma(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    step = norm_affine(norm)
    a, b = (t.double()[:, None, None] for t in (step.a, step.b))
    return (x.double() * a + b).float()


@folds_norms
@pytest.mark.covering
@pytest.mark.parametrize("variance", [0.0, 1e-12, 1.0, 1e6])
@pytest.mark.parametrize("gamma", [0.0, -1.0, 1e-30, -1e-30, 3.0])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_equals_the_norm_to_the_bit(gamma, variance, memory_format):
    norm = norm_of(torch.randn(37) * gamma, torch.randn(37), torch.randn(37), torch.rand(37) * variance)
    x = torch.randn(2, 37, 5, 3).contiguous(memory_format=memory_format) * 100
    with torch.no_grad():
        assert torch.equal(fma(norm, x), norm(x))


@folds_norms
def test_a_norm_without_numbers_of_its_own():
    norm = nn.BatchNorm2d(5, eps=0.5, affine=False).eval()
    norm.running_mean.normal_()
    x = torch.randn(2, 5, 3, 3)
    assert torch.equal(fma(norm, x), norm(x))


def test_numbers_that_are_not_finite_are_left_to_torch():
    infinite = norm_of(torch.tensor([torch.inf]), torch.zeros(1), torch.zeros(1), torch.ones(1))
    unknown = norm_of(torch.ones(1), torch.zeros(1), torch.tensor([torch.nan]), torch.ones(1))
    assert norm_affine(infinite) is None
    assert norm_affine(unknown) is None


@folds_norms
def test_what_cannot_be_folded():
    assert can_fold(nn.BatchNorm2d(3).eval())
    assert not can_fold(nn.BatchNorm2d(3))
    assert not can_fold(nn.BatchNorm2d(3, track_running_stats=False).eval())
    assert not can_fold(nn.BatchNorm2d(3).double().eval())
    assert not can_fold(nn.GroupNorm(1, 3).eval())
