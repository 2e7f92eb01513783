"""An optimizer step on the gradient of hard weights raises, and no other step does."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from proxconnect import BinaryLinear, full_precision, hard

REFUSED = "would train the latents"


def model(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), BinaryLinear(6, 4, **options), nn.BatchNorm1d(4))


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.1)


def backward(module: nn.Module) -> None:
    module(torch.randn(8, 5)).square().sum().backward()


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "itself": lambda m: m,
    "deepcopy": copy.deepcopy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("weights", ["bnn++", "bc", "bnn+"])
def test_a_step_in_eval_is_refused(again: Callable[[nn.Module], nn.Module], weights: str) -> None:
    net = again(model(weights=weights).eval())
    optimizer = sgd(net)
    backward(net)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(RuntimeError, match=REFUSED) as error:
        optimizer.step()
    assert "model.train()" in str(error.value)
    assert weights in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("weights", ["bnn++", "fp"])
def test_a_step_inside_hard_is_refused(weights: str) -> None:
    net = model(weights=weights)
    optimizer = sgd(net)
    with hard(net):
        backward(net)
        with pytest.raises(RuntimeError, match=REFUSED):
            optimizer.step()
    optimizer.zero_grad()
    backward(net)
    optimizer.step()


def test_a_step_in_full_precision_inside_hard_does_not_disarm_the_guard() -> None:
    net = model()
    optimizer = sgd(net)
    with hard(net):
        with full_precision(net):
            backward(net)
            optimizer.step()
        with pytest.raises(RuntimeError, match=REFUSED):
            optimizer.step()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_made_inside_hard_is_free_of_it(again: Callable[[nn.Module], nn.Module]) -> None:
    """A copy outlives the context, so it must not stay hard behind the user's back."""
    net = model()
    with hard(net):
        twin = again(net)
    optimizer = sgd(twin)
    backward(twin)
    assert not twin[1].weight_quantizer.is_hard
    optimizer.step()


@pytest.mark.parametrize("optimizer_type", [torch.optim.SGD, torch.optim.LBFGS])
@pytest.mark.parametrize("by_keyword", [False, True])
def test_a_step_with_a_closure_is_refused(optimizer_type: Any, by_keyword: bool) -> None:
    """Before the closure ran there is no gradient to look at."""
    net = model().eval()
    optimizer = optimizer_type(net.parameters(), lr=0.1)
    ran = []

    def closure() -> torch.Tensor:
        ran.append(True)
        return net(torch.randn(8, 5)).square().sum()

    with pytest.raises(RuntimeError, match=REFUSED):
        optimizer.step(closure=closure) if by_keyword else optimizer.step(closure)
    assert not ran


def test_every_optimizer_is_guarded_also_an_older_one() -> None:
    net = model()
    optimizers = [sgd(net), torch.optim.AdamW(net.parameters()), torch.optim.Adam([{"params": [net[1].latent]}])]
    backward(net)
    net.eval()
    for optimizer in optimizers:
        with pytest.raises(RuntimeError, match=REFUSED):
            optimizer.step()


def test_hard_activations_alone_are_refused() -> None:
    net = model(weights="fp", activations="bnn++").eval()
    optimizer = sgd(net)
    backward(net)
    with pytest.raises(RuntimeError, match=REFUSED):
        optimizer.step()


def test_fp_steps_in_eval() -> None:
    net = model(weights="fp").eval()
    optimizer = sgd(net)
    backward(net)
    optimizer.step()


def test_a_step_on_other_parameters_alone_is_allowed() -> None:
    net = model().eval()
    others = torch.optim.SGD([p for name, p in net.named_parameters() if name != "1.latent"], lr=0.1)
    backward(net)
    others.step()


def test_latents_without_a_gradient_or_frozen_are_allowed() -> None:
    net = model().eval()
    optimizer = sgd(net)
    net[0](torch.randn(2, 5)).sum().backward()
    optimizer.step()
    net[1].latent.requires_grad_(False)
    backward(net)
    optimizer.step()
    optimizer.step(lambda: net(torch.randn(8, 5)).sum())


def test_going_back_to_train_allows_steps_again() -> None:
    net = model()
    optimizer = sgd(net)
    for _ in range(2):
        net.eval()
        net(torch.randn(2, 5))
        net.train()
        backward(net)
        before = net[1].latent.detach().clone()
        optimizer.step()
        assert not torch.equal(before, net[1].latent)
        optimizer.zero_grad()
    net.eval()
    backward(net)
    with pytest.raises(RuntimeError, match=REFUSED):
        optimizer.step()


def test_full_precision_in_eval_trains_the_latents_themselves() -> None:
    net = model().eval()
    optimizer = sgd(net)
    with full_precision(net):
        backward(net)
        optimizer.step()


def test_frozen_batch_norm_is_no_reason_to_refuse() -> None:
    net = model()
    net[2].eval()
    optimizer = sgd(net)
    backward(net)
    optimizer.step()


def test_a_converted_layer_in_eval_is_guarded() -> None:
    net = nn.Sequential(BinaryLinear.convert(nn.Linear(5, 4).eval()))
    optimizer = sgd(net)
    backward(net)
    with pytest.raises(RuntimeError, match=REFUSED):
        optimizer.step()


def test_the_guard_holds_no_layer_alive() -> None:
    net = model().eval()
    reference = weakref.ref(net[1])
    del net
    gc.collect()
    assert reference() is None
