"""torch.compile, torch.func, autocast, copies of graphs: a binary layer is an ordinary module to all of them."""

import importlib
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proxconnect import PAIRS, BinaryConv2d, BinaryLinear, hard
from thorough import thorough_but

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def net(**options: Any) -> nn.Sequential:
    return nn.Sequential(
        BinaryConv2d(3, 4, 3, padding=1, dtype=torch.float64, **options),
        nn.Flatten(),
        BinaryLinear(64, 2, dtype=torch.float64, **options),
    )


def gradients(module: nn.Module, x: Tensor, compiled: Any) -> list[Tensor]:
    return list(torch.autograd.grad(compiled(x).square().sum(), list(module.parameters())))


def same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-12) -> bool:
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(ours, theirs, strict=True))


SETTINGS = [(name, "channel", None) for name in PAIRS] + [("bnn++", "tensor", "bnn"), ("bnn", None, "poly")]


FAST = [setting for setting in SETTINGS if setting[1] != "channel" or setting[0] in ("pc", "bnn++", "erf", "clip+")]


@pytest.mark.parametrize(("name", "scale", "activations"), thorough_but(FAST, SETTINGS))
def test_compiles_to_one_graph_while_mu_moves(name: str, scale: Any, activations: str | None) -> None:
    testing = importlib.import_module("torch._dynamo.testing")
    torch._dynamo.reset()
    counter = testing.CompileCounterWithBackend("aot_eager")
    layer = BinaryLinear(6, 4, dtype=torch.float64, weights=name, scale=scale, activations=activations)
    compiled, x = torch.compile(layer, fullgraph=True, backend=counter), torch.randn(5, 6, dtype=torch.float64)
    compilations = []
    for mu in (1.5, 3.0, 30.0):
        layer.weight_quantizer.mu.fill_(mu)
        assert torch.allclose(compiled(x), layer(x), rtol=1e-14, atol=1e-14)
        assert same(gradients(layer, x, compiled), gradients(layer, x, layer), 1e-13)
        compilations.append(counter.frame_count)
    assert set(compilations) == {compilations[0]}


def test_a_compiled_network_follows_its_mode() -> None:
    torch._dynamo.reset()
    module, x = net(activations="bnn++"), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for training in (True, False, True):
        module.train(training)
        assert torch.allclose(compiled(x), module(x), rtol=1e-13, atol=1e-13)
    with hard(module):
        assert torch.allclose(compiled(x), module(x), rtol=1e-13, atol=1e-13)
    assert torch.allclose(compiled(x), module(x), rtol=1e-13, atol=1e-13)


@pytest.mark.thorough  # stacks/test_compile.py trains such a layer with inductor
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_agrees_with_eager() -> None:
    torch._dynamo.reset()
    layer, x = BinaryLinear(6, 4), torch.randn(5, 6)
    compiled = torch.compile(layer, fullgraph=True)
    assert torch.allclose(compiled(x), layer(x), rtol=1e-5, atol=1e-6)
    assert same(gradients(layer, x, compiled), gradients(layer, x, layer), 1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_functional_call_with_other_latents(name: str) -> None:
    layer, other = (BinaryLinear(6, 4, weights=name) for _ in range(2))
    x, before = torch.randn(5, 6), layer.latent.detach().clone()
    swapped = torch.func.functional_call(layer, dict(other.named_parameters()), (x,))
    assert torch.equal(swapped, other(x))
    assert torch.equal(layer.latent, before)


@pytest.mark.parametrize("kind", [nn.Parameter, torch.Tensor])
def test_functional_call_by_the_float_name_is_refused(kind: type[Tensor]) -> None:
    """A dictionary of a float model's parameters says `weight`, which torch would assign and then assign back."""
    layer = BinaryLinear(6, 4, weights="bc")
    with pytest.raises((TypeError, ValueError), match="latent"):
        torch.func.functional_call(layer, {"weight": kind(torch.zeros(4, 6))}, (torch.ones(1, 6),))


@pytest.mark.parametrize("name", ["bc", "bnn", "bnn++", "bnn+"])
def test_per_sample_gradients(name: str) -> None:
    """vmap of grad of functional_call is a loop over the samples."""
    module = net(weights=name, activations="bnn++")
    parameters, x = dict(module.named_parameters()), torch.randn(3, 3, 4, 4, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.func.functional_call(module, parameters, (sample[None],)).square().sum()

    batched = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sample in enumerate(x):
        each = torch.autograd.grad(module(sample[None]).square().sum(), list(module.parameters()))
        assert same([batched[name][i] for name in parameters], list(each))


@pytest.mark.parametrize("weights", ["bnn++", "bc", "bnn"])
@pytest.mark.parametrize("activations", [None, "bnn++"])
def test_autocast_computes_in_bfloat16_and_keeps_float32_gradients(weights: str, activations: str | None) -> None:
    layer = BinaryLinear(64, 8, weights=weights, activations=activations)
    x = torch.randn(16, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
        assert output.dtype == torch.bfloat16
        output.float().square().mean().backward()
    assert layer.latent.grad is not None
    assert layer.latent.grad.dtype == torch.float32
    ours = layer.latent.grad.clone()
    layer.latent.grad = None
    exact = layer(x)
    exact.square().mean().backward()
    assert torch.allclose(output.float(), exact, rtol=0.03, atol=0.03)
    assert (ours - layer.latent.grad).norm() < 0.03 * layer.latent.grad.norm()


def test_checkpointing_and_accumulation_change_nothing() -> None:
    from torch.utils.checkpoint import checkpoint

    module, x = net(activations="bnn++"), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    plain = gradients(module, x, module)
    assert same(gradients(module, x, lambda v: checkpoint(module, v, use_reentrant=False)), plain)
    for sample in x:
        module(sample[None]).square().sum().backward()
    assert same([p.grad for p in module.parameters()], plain)


def test_export_gives_one_graph() -> None:
    layer, x = BinaryLinear(6, 4).eval(), torch.randn(5, 6)
    exported = torch.export.export(layer, (x,)).module()
    assert torch.allclose(exported(x), layer(x), rtol=1e-6, atol=1e-6)
