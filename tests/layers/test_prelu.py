"""`PReLU` against torch's."""

import pytest
import torch
from torch import nn

from proxconnect.layers import PReLU


def alike(channels, dtype=torch.float32):
    theirs, ours = nn.PReLU(channels, dtype=dtype), PReLU(channels, dtype=dtype)
    with torch.no_grad():
        theirs.weight.normal_()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("shape", "channels"),
    [((9, 4, 5, 5), 4), ((9, 4, 5, 5), 1), ((9, 4), 4), ((9, 4, 5), 4), ((9,), 1), ((2, 4, 0), 4)],
)
def test_outputs_and_gradients_are_those_of_torch(shape, channels, memory_format, autocast, dtype):
    x, g, results = torch.randn(shape).to(dtype), torch.randn(shape), []
    x[0] = 0.0
    x = x.to(memory_format=memory_format) if x.dim() == 4 else x
    for module in alike(channels, dtype):
        input = x.clone().requires_grad_()
        with torch.autocast("cpu", enabled=autocast):
            output = module(input)
        output.backward(g.to(output.dtype))
        results.append((output, input.grad, module.weight.grad))
    (theirs, of_input, of_weight), (ours, input_grad, weight_grad) = results
    assert (theirs.dtype, theirs.stride()) == (ours.dtype, ours.stride())
    assert torch.equal(theirs, ours)
    assert torch.equal(of_input, input_grad)
    torch.testing.assert_close(weight_grad, of_weight)


def test_the_gradient_can_be_differentiated_and_transformed():
    x, results = torch.randn(3, 4, 2, requires_grad=True), []
    for module in alike(4):
        (gradient,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
        of_gradient = torch.autograd.grad(gradient.sum(), module.weight)
        per_sample = torch.func.vmap(torch.func.grad(lambda row, f=module: f(row[None]).square().sum()))(x)
        results.append((gradient, *of_gradient, per_sample))
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_saves_what_torch_saves():
    sizes = []
    for module in alike(4):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            module(torch.randn(3, 4, 2, 2, requires_grad=True))
        sizes.append(sorted(saved))
    assert sizes[0] == sizes[1]


def test_wrong_inputs_get_the_errors_of_torch():
    with pytest.raises(RuntimeError, match="parameter numbers = 3 and channel size = 4"):
        PReLU(3)(torch.randn(2, 4, 2))
    with pytest.raises(RuntimeError, match="Type promoting"):
        PReLU(4)(torch.randn(2, 4, 2).bfloat16())
