"""`hard`, `soft` and `full_precision`: what they show, how they nest, and that they give everything back."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from looped import looped
from proxconnect import (
    PAIRS,
    BinaryConv2d,
    BinaryLinear,
    Quantizer,
    Sharpening,
    full_precision,
    hard,
    post_training,
    soft,
)
from proxconnect.deploy.fusion import layer_by_layer

CONTEXTS = {"hard": hard, "soft": soft, "full_precision": full_precision}


def net(weights: str = "bnn++", activations: str | None = "bnn++") -> nn.Sequential:
    return nn.Sequential(
        BinaryConv2d(
            3, 4, 3, weights=weights, activations=activations, padding=1, padding_value=-1 if activations else 0
        ),
        nn.Flatten(),
        BinaryLinear(64, 2, weights=weights, activations=activations),
    )


def state(model: nn.Module) -> list[object]:
    return [(q.override, q.training, q.is_hard) for q in model.modules() if isinstance(q, Quantizer)]


def run_float(model: nn.Sequential, x: Tensor, weights: list[Tensor], binary_input: bool) -> Tensor:
    def act(v: Tensor) -> Tensor:
        return torch.where(v < 0, -1.0, 1.0) if binary_input else v

    first, _, last = model
    padded = functional.pad(act(x), (1, 1, 1, 1), value=float(first.padding_value))
    return functional.linear(act(functional.conv2d(padded, weights[0], first.bias).flatten(1)), weights[1], last.bias)


@pytest.mark.parametrize("weights", PAIRS)
@looped(training=[True, False])
def test_hard_runs_on_signs_in_any_mode(weights: str, training: bool) -> None:
    model, x = net(weights).train(training), torch.randn(2, 3, 4, 4)
    with hard(model) as same:
        assert same is model
        expected = run_float(model, x, [model[0].binary_weight, model[2].binary_weight], True)
        assert torch.allclose(model(x), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(model[0].weight, model[0].binary_weight)
        assert model.training is training
    assert torch.allclose(model.eval()(x), expected, atol=1e-5) == (weights != "fp")


@pytest.mark.parametrize("weights", PAIRS)
@looped(training=[True, False])
def test_full_precision_runs_on_the_latents_in_any_mode(weights: str, training: bool) -> None:
    model, x = net(weights, None).train(training), torch.randn(2, 3, 4, 4)
    with full_precision(model) as same:
        assert same is model
        assert torch.allclose(model(x), run_float(model, x, [model[0].latent, model[2].latent], False), atol=1e-5)
        assert model[2].weight is model[2].latent
    with_activations = net(weights).train(training)
    with full_precision(with_activations):
        assert torch.equal(with_activations[0].quantize_input(x), x)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("weights", PAIRS)
def test_soft_in_eval_is_what_train_computes(weights: str, kernels: bool, request: pytest.FixtureRequest) -> None:
    if not kernels:
        request.getfixturevalue("by_torch")
    model, x = net(weights, None if weights == "fp" else weights), torch.randn(2, 3, 4, 4)
    for quantizer in (q for q in model.modules() if isinstance(q, Quantizer)):
        quantizer.mu.fill_(2.0)
    expected = model.train()(x)
    gradient = torch.autograd.grad(expected.sum(), model[0].latent)[0]
    with soft(model.eval()) as same:
        assert same is model
        assert not model.training
        output = model(x)
        assert torch.equal(output, expected)
        assert torch.equal(torch.autograd.grad(output.sum(), model[0].latent)[0], gradient)
        assert torch.equal(model.train()(x), expected)
    if weights == "fp":
        assert torch.equal(model[0].weight, model[0].latent)


def test_soft_leaves_batch_norm_and_the_mark_of_training_alone() -> None:
    model = nn.Sequential(BinaryLinear(4, 3), nn.BatchNorm1d(3)).eval()
    with soft(model), hard(model), soft(model):
        model(torch.randn(50, 4))
        assert torch.equal(model[1].running_mean, torch.zeros(3))
    assert not model[0].weight_quantizer.trained


def test_hard_warns_of_a_sharpness_that_nothing_moves() -> None:
    model = net("pc", None)
    with hard(model):  # nothing was trained
        pass
    model(torch.randn(2, 3, 4, 4))
    words = r"^weights ran in train\(\) by .*'pc'.*nothing moves, and hard\(\)"
    with pytest.warns(UserWarning, match=words) as said, hard(model):
        pass
    assert {warning.filename for warning in said} == {__file__}
    Sharpening(torch.optim.SGD(model.parameters(), lr=0.1), model, steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with hard(model):
            pass


def test_soft_quantises_no_latent_that_a_rule_trains() -> None:
    model = BinaryLinear(4, 3)
    post_training(torch.optim.SGD(model.parameters(), lr=0.1), model)
    with soft(model.eval()):
        assert model.weight is model.latent


@looped(training=[True, False])
@pytest.mark.parametrize("outer", CONTEXTS)
@pytest.mark.parametrize("inner", CONTEXTS)
def test_contexts_nest(outer: str, inner: str, training: bool) -> None:
    model = net().train(training)
    before = state(model)
    with CONTEXTS[outer](model):
        between = state(model)
        assert all(q.override == outer for q in model.modules() if isinstance(q, Quantizer))
        with CONTEXTS[inner](model):
            assert all(q.override == inner for q in model.modules() if isinstance(q, Quantizer))
        assert state(model) == between
    assert state(model) == before


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_restores_on_any_exception(context: str, exception: type[BaseException]) -> None:
    model = net()
    before = state(model)
    with pytest.raises(exception), hard(model), CONTEXTS[context](model):
        raise exception
    assert state(model) == before


def test_one_part_of_a_model_may_be_hard() -> None:
    model = net()
    with hard(model[0]):
        assert model[0].weight_quantizer.is_hard
        assert not model[2].weight_quantizer.is_hard
    with hard(model), full_precision(model[2]):
        assert model[0].weight_quantizer.is_hard
        assert torch.equal(model[2].weight, model[2].latent)


def test_a_module_under_two_names_is_restored() -> None:
    layer = BinaryLinear(4, 4)
    model = nn.Sequential(layer, layer)
    with hard(model):
        pass
    assert layer.weight_quantizer.override is None


def test_going_to_eval_inside_a_context_lasts() -> None:
    model = net()
    with full_precision(model):
        model.eval()
        assert not model[0].weight_quantizer.is_hard
    assert model[0].weight_quantizer.is_hard


def test_gradients_inside_hard_are_those_of_the_pair() -> None:
    for name, pair in PAIRS.items():
        layer = BinaryLinear(4, 3, bias=False, weights=name, scale=None)
        layer.weight_quantizer.mu.fill_(2.0)
        x = torch.randn(5, 4)
        with hard(layer):
            layer(x).sum().backward()
        expected = x.sum(0).expand(3, 4) * pair.backward(layer.latent.detach(), 2.0)
        assert torch.allclose(layer.latent.grad, expected, atol=1e-5)


def test_batch_statistics_under_hard_are_those_of_the_hard_net() -> None:
    model = nn.Sequential(BinaryLinear(4, 3), nn.BatchNorm1d(3, momentum=None))
    x = torch.randn(50, 4)
    with hard(model):
        model(x)
    expected = functional.linear(x, model[0].binary_weight, model[0].bias).mean(0)
    assert torch.allclose(model[1].running_mean, expected, atol=1e-6)


@pytest.mark.parametrize("context", [*CONTEXTS.values(), layer_by_layer])
def test_a_context_that_is_called_like_a_model_says_what_to_write(context) -> None:
    model, x = net(), torch.randn(2, 3, 4, 4)
    for inputs in ((x,), (x, x), ({"input": x},)):
        with pytest.raises(TypeError, match=rf"write `with {context.__name__}\(model\): y = model\(x\)`"):
            context(model)(*inputs)
    with pytest.raises(TypeError, match="is a context, not a model"):
        context(model)(input=x)


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_decorates_functions_that_may_call_themselves(context: str) -> None:
    model = net()
    before = state(model)

    @CONTEXTS[context](model)
    def modes(depth: int) -> list[object]:
        return [model[0].weight_quantizer.override, *(modes(depth - 1) if depth else [])]

    assert modes(2) == [context] * 3
    assert state(model) == before


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_that_nobody_enters_is_told(context: str) -> None:
    with pytest.warns(UserWarning, match=rf"changes nothing: write `with {context}\(model\):`"):
        CONTEXTS[context](net())
