"""Running a model on an example leaves no trace, whatever happens."""

import copy

import pytest
import torch
from torch import nn

from proxconnect.conversion import plan
from proxconnect.inspection import summary


class Stateful(nn.Module):
    """Changes its buffers, draws random numbers, depends on its mode and fails when asked to."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4))
        self.layers[1].eval()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(2, 4), persistent=False)
        self.fails, self.modes = False, []

    def forward(self, x):
        self.modes.append([module.training for module in self.modules()])
        self.calls += 1
        self.last = x + torch.rand(2, 4)
        if self.fails:
            raise ArithmeticError("asked to")
        return self.layers(x)


@pytest.fixture(params=[lambda m, x: plan(m, example=x, keep=["edges"]), summary], ids=["plan", "summary"])
def run(request):
    return request.param


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before(run, fails):
    model = Stateful().train()
    model.layers[1].eval()
    model.fails = fails
    buffers, state = list(model.buffers()), copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    random, fast_path = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    x = torch.randn(2, 4, generator=torch.Generator())
    if fails:
        with pytest.raises(ArithmeticError) as caught:
            run(model, x)
        assert "`example`" in caught.value.__notes__[0]
    else:
        run(model, x)
    assert model.modes[-1] == [False] * len(modes)
    assert [module.training for module in model.modules()] == modes
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(new is old for new, old in zip(model.buffers(), buffers, strict=True))
    assert model.last.eq(0).all()
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    assert torch.is_grad_enabled()


def test_an_overridden_train_is_not_called(run):
    class Merging(nn.Sequential):
        def train(self, mode=True):
            raise AssertionError("merges weights")

    run(Merging(*(nn.Linear(4, 4) for _ in range(3))), torch.randn(2, 4))


def test_no_graph_is_built_and_gradients_stay(run):
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    model(torch.randn(2, 4)).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    seen = []
    model[1].register_forward_hook(lambda m, a, output: seen.append(output.requires_grad))
    run(model, torch.randn(2, 4))
    assert seen == [False]
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_it_works_inside_inference_mode(run):
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    expected = run(model, torch.randn(2, 4))
    with torch.inference_mode():
        assert run(model, torch.randn(2, 4)) == expected
