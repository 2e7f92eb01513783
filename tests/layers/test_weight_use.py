"""Uses of `layer.weight` that would be lost, or would train or overwrite the latents wrongly, are noticed."""

import copy
import warnings

import pytest
import torch
from torch import nn

import proxconnect as pc

X = torch.randn(4, 8)


def network(*pairs: str, **options) -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    return pc.binarize(model, *pairs, **options)


@torch.no_grad()
def clamped(layer: nn.Module) -> None:
    layer.weight.clamp_(-1, 1)


def attention() -> nn.Module:
    return pc.binarize(nn.Sequential(nn.MultiheadAttention(8, 2)), keep=None)[0]


WRITES = {
    "nn.init": lambda: nn.init.normal_(network()[1].weight),
    "in eval()": lambda: nn.init.zeros_(network().eval()[1].weight),
    "clamp_": lambda: clamped(network()[1]),
    "a projection": lambda: nn.init.zeros_(attention().in_proj_weight),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_is_lost_warns_where_it_is_made(name):
    with pytest.warns(UserWarning, match="write to layer.latent, or assign") as caught:
        WRITES[name]()
    assert [warning.filename for warning in caught] == [__file__]


def read(model: nn.Module) -> None:
    nn.functional.linear(X, model[1].weight).sum().backward()
    model[1].weight.clone().zero_()


def attended(_: nn.Module) -> None:
    layer = attention()
    layer(X, X, X)[0].sum().backward()


def written_float(model: nn.Module) -> None:
    with pc.full_precision(model):
        clamped(model[1])
    assert model[1].latent.abs().max() <= 1


def explained(model: nn.Module) -> None:
    """By input gradients in every way, and copied."""
    x = X.clone().requires_grad_()
    torch.autograd.grad(model.eval()(x).sum(), x)
    torch.func.grad(lambda x: model(x).sum())(X)
    torch.func.vmap(model)(X)
    copy.deepcopy(model)


RIGHT = {
    "a read": read,
    "a step": lambda model: model(X).sum().backward(),
    "attention": attended,
    "an initialisation": lambda model: model[1].reset_parameters(),
    "an assignment": lambda model: setattr(model[1], "weight", torch.ones(8, 8)),
    "a write to the latent": lambda model: nn.init.normal_(model[1].latent),
    "in full precision": written_float,
    "an explanation": explained,
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_use_is_quiet(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch's own
        RIGHT[name](network("bnn++", "bnn"))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("tensor", [torch.ones(8, 8), nn.Parameter(torch.ones(8, 8))], ids=["tensor", "parameter"])
def test_functional_call_with_the_float_name_is_refused_and_changes_nothing(tensor, grad):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.set_grad_enabled(grad), pytest.raises((TypeError, ValueError), match="the parameter `latent`"):
        torch.func.functional_call(model, {"0.bias": torch.zeros(8), "1.weight": tensor}, X)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.func.functional_call(model, {"1.latent": tensor}, X)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_the_old_weight_norm_is_refused_before_and_after():
    before = pc.plan(nn.Sequential(nn.Linear(8, 8), nn.utils.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8)), keep=None)
    assert before.rows[1].reason == "weight-normed: torch.nn.utils.remove_weight_norm() makes its weight plain"
    model = network()
    with pytest.raises(TypeError, match=r"`latent`: call weight_norm\(layer, 'latent'\)"):
        nn.utils.weight_norm(model[1])
    model(nn.utils.weight_norm(model[1], "latent")(X)).sum().backward()


def gradient(model: nn.Module) -> None:
    model(X).sum().backward()


def step(model: nn.Module, between=lambda optimizer: None, context=None) -> None:
    """Step in train() after a gradient in eval(), or in the context."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if context is None:
        gradient(model.eval())
    else:
        with context(model):
            gradient(model)
    model.train()
    between(optimizer)
    optimizer.step()


@pytest.mark.parametrize("pairs", [("bc",), ("bnn++",), ("bnn++", "bnn")])
@pytest.mark.parametrize("context", [None, pc.hard])
def test_a_step_with_a_gradient_of_hard_weights_is_refused(pairs, context):
    other = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(RuntimeError, match=r"or was when its gradient was taken.*Call model.train\(\), zero"):
        step(network(*pairs), lambda _: other.step(), context)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_gradient_of_hard_weights_that_was_zeroed_does_not_count(set_to_none):
    model = network()

    def anew(optimizer):
        optimizer.zero_grad(set_to_none)
        gradient(model)

    step(model, anew)
    step(network(), lambda optimizer: optimizer.zero_grad(set_to_none))
