"""torch.compile: the losses of eager training while μ moves, and one graph for all of it."""

import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from proxconnect import BinaryLinear, Sharpening
from stacks.nets import OPTIMIZERS, STEPS, batches, distance, net, scheduled, sharpnesses, state, train

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch warns of itself
needs_a_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def scheduled_optimizer(model):
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    Sharpening(optimizer, model, steps=STEPS)
    return optimizer


def scheduled_net(**choices):
    model = net(**choices)
    return model, scheduled_optimizer(model)


def one_layer():
    """Less to compile than `net`: inductor calls a C++ compiler for each of its kernels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), BinaryLinear(36, 3))
    return model, scheduled_optimizer(model)


@pytest.mark.parametrize(
    ("backend", "make"),
    [("aot_eager", scheduled_net), pytest.param("inductor", one_layer, marks=needs_a_compiler)],
)
def test_losses_are_those_of_eager_training(backend, make):
    counter = CompileCounterWithBackend(backend)
    model, optimizer = make()
    losses = train(torch.compile(model, backend=counter, fullgraph=True), optimizer, batches())
    eager, its_optimizer = make()
    assert losses == pytest.approx(train(eager, its_optimizer, batches()), abs=1e-6)
    assert set(sharpnesses(model)) == set(sharpnesses(eager))
    assert sharpnesses(model)[0] == pytest.approx(scheduled(5))
    assert counter.frame_count == 1


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activations", [None, "poly+"])
def test_nothing_is_compiled_again_while_mu_moves(dtype, activations):
    counter = CompileCounter()
    model, optimizer = scheduled_net(activations=activations)
    model.to(dtype)
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    data = [(images.to(dtype), labels) for images, labels in batches()]
    train(compiled, optimizer, data[:1])
    after_one_step = counter.frame_count
    train(compiled, optimizer, data)
    assert counter.frame_count == after_one_step


def test_eval_is_a_graph_of_its_own_and_train_finds_its_old_one():
    counter = CompileCounter()
    model, optimizer = scheduled_net()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    [(images, labels)] = batches(1)
    for _ in range(2):
        train(compiled, optimizer, [(images, labels)])
        model.eval()
        torch.testing.assert_close(compiled(images), model(images))
        model.train()
    assert counter.frame_count == 2


def test_a_compiled_optimizer_step_moves_mu_and_stops_compiling():
    counter = CompileCounterWithBackend("eager")
    model, optimizer = scheduled_net()
    step, frames = optimizer.step, []
    optimizer.step = torch.compile(step, backend=counter)
    data = batches(7)
    for batch in data:
        train(model, optimizer, [batch])
        frames.append(counter.frame_count)
    eager, its_optimizer = scheduled_net()
    train(eager, its_optimizer, data)
    assert sharpnesses(model) == pytest.approx([scheduled(7)] * 2)
    assert distance(state(model), state(eager)) < 1e-5
    assert frames[3:] == [frames[3]] * 4
