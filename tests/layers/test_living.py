"""An optimizer that goes on with the state of a schedule or a rule says at its first step if it was not made again."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import proxconnect as pc


def network(weights: str = "bnn++", activations: str | None = None) -> nn.Module:
    torch.manual_seed(0)
    return pc.binarize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), weights, activations, keep=None)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.1)


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


def saved(part: Any = "weights", **options: Any) -> dict[str, Any]:
    """The state of an optimizer after two steps with a schedule."""
    model = network(**options)
    optimizer = adam(model)
    pc.Sharpening(optimizer, model, steps=5, part=part)
    for _ in range(2):
        stepped(model, optimizer)
    return optimizer.state_dict()


@pytest.mark.parametrize("part", ["weights", "activations", "both"])
def test_a_schedule_that_was_not_made_again_is_noticed_at_the_first_step_alone(part: str) -> None:
    options = {} if part == "weights" else {"activations": "poly+"}
    model = network(**options)
    optimizer = adam(model)
    optimizer.load_state_dict(saved(part, **options))
    with pytest.warns(
        UserWarning, match=r"^the state of this Adam counts 2 steps of a Sharpening.*call proxconnect.S"
    ) as said:
        stepped(model, optimizer)
    assert [warning.filename for warning in said] == [__file__]
    quietly(model, optimizer)


def quietly(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stepped(model, optimizer)


def test_a_schedule_of_inner_layers_or_one_made_after_loading_is_seen() -> None:
    for scheduled in (lambda model: model, lambda model: model[1]):
        model = network()
        optimizer = adam(model)
        optimizer.load_state_dict(saved())
        pc.Sharpening(optimizer, scheduled(model), steps=5)
        quietly(model, optimizer)


class Twice(torch.optim.Optimizer):
    """An optimizer that wraps another under an unknown name and shares its groups."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.wrapped, self.param_groups = inner, inner.param_groups

    def step(self, closure: Any = None) -> None:
        self.wrapped.step()
        self.wrapped.step()


def test_a_wrapper_and_what_it_wraps_share_the_schedule() -> None:
    model = network()
    inner = adam(model)
    outer = Twice(inner)
    pc.Sharpening(outer, model, steps=5)
    quietly(model, outer)


def test_where_no_sharpness_can_move_nothing_is_said() -> None:
    model = network("bc")
    optimizer = adam(model)
    optimizer.load_state_dict(saved())
    quietly(model, optimizer)


def test_a_removed_schedule_leaves_no_count() -> None:
    model = network()
    optimizer = adam(model)
    pc.Sharpening(optimizer, model, steps=5).remove()
    quietly(model, optimizer)


def test_copies_of_model_and_optimizer_have_lost_the_schedule() -> None:
    model = network()
    optimizer = adam(model)
    pc.Sharpening(optimizer, model, steps=5)
    both = copy.deepcopy((model, optimizer))
    with pytest.warns(UserWarning, match="was not made again"):
        stepped(*both)


@pytest.mark.parametrize("rule", [pc.proxquant, pc.reverse_proxconnect, pc.post_training])
def test_a_rule_that_was_not_made_again_stops_the_first_step(rule: Any) -> None:
    model, twin = network("md"), network("md")
    optimizer, its_optimizer = adam(model), adam(twin)
    rule(its_optimizer, twin)
    optimizer.load_state_dict(its_optimizer.state_dict())
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"made by {rule.__name__}.* call proxconnect.{rule.__name__}\("):
            stepped(model, optimizer)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    rule(optimizer, model)
    quietly(model, optimizer)
