"""Learning rates against their formulas."""

import math

import pytest
import torch

from proxconnect.training.schedules import Constant, Cosine, Steps


def rates(kind, steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = kind(optimizer, steps, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_constant():
    assert rates(Constant, 3) == [2.0, 2.0, 2.0]


def test_cosine_is_that_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.2)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(Cosine, 20, floor=0.1) == pytest.approx(expected)


def test_cosine_rises_first():
    found = rates(Cosine, 10, warmup=0.3)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[-1] == pytest.approx(1 + math.cos(math.pi * 6 / 7))


def test_steps_fall_at_their_shares():
    assert rates(Steps, 8, at=[0.5, 0.75], gamma=0.5) == [2.0] * 4 + [1.0] * 2 + [0.5] * 2
