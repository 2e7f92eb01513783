"""What every network must go through, from a float one to what is loaded from a file."""

import copy
import fnmatch
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import proxconnect as pc
from proxconnect._support.example import arguments, tensors_in
from proxconnect.deploy.fusion import prove
from proxconnect.layers import BinaryLayer
from sweep.subject import Subject

MODES: dict[str, dict[str, Any]] = {"BW": {}, "BWA": {"activations": "bnn"}}
CLOSE = 1e-4
"""How far sums in another order may be off, relative to the largest answer."""


def started(subject: Subject) -> nn.Module:
    """The float network, of random weights."""
    torch.manual_seed(0)
    return shaken(subject.build())


def go_through(subject: Subject, floats: nn.Module, mode: str, folder: Path) -> str:
    """Binarize, step, harden, pack, save, load; AssertionError where a step fails. What to say of it, or nothing.

    `floats` is what `started` gave, and stays as it is.
    """
    torch.manual_seed(0)
    example = subject.example()
    model = pc.binarize(copy.deepcopy(floats), example=example, **MODES[mode], **subject.options)
    model.load_state_dict(floats.state_dict(), strict=True)
    said = remarks(model, mode)
    model.train()
    if mode == "BWA":
        norms_at_rest(model)
    step(model, subject.training or (lambda: example), subject.idle)
    model.eval().requires_grad_(False)
    expected = answers(model, example, subject.telling)
    assert expected, "it answers no tensor"
    if mode == "BW":
        hard = hard_floats(floats, model)
        near(answers(hard, example, subject.telling), expected, "the float network of hard weights")
        del hard
    packed = pc.pack(model, example=example)  # which compares it layer by layer
    if mode == "BW":
        near(answers(packed, example, subject.telling), expected, "the packed network")
    pc.save(packed, folder / "net.safetensors")
    prove(model, pc.load(folder / "net.safetensors", floats), example)
    return said


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """With noise on every parameter, equal in all rows: heads and scales that start at 0 let no gradient through."""
    for parameter in model.parameters():
        parameter.add_(torch.rand(parameter.shape[1:] or parameter.shape).sub_(0.5), alpha=0.06)
    return model


def remarks(model: nn.Module, mode: str) -> str:
    """How many layers are binary, where most are not; whose inputs stay float, where binary ones were asked for."""
    binary = [row for row in model.binarization.rows if row.weights is not None]
    layers = len(model.binarization.rows)
    said = [f"{len(binary)} of {layers} layers binary"] if len(binary) < layers / 2 else []
    names = [row.name for row in binary if row.activations is None]
    if mode != "BW" and names:
        said.append(f"inputs of {len(names)} layers stay float, such as {names[0]}")
    return "; ".join(said)


def norms_at_rest(model: nn.Module) -> None:
    """Batch norms use their running statistics: behind signs of a ReLU all values are equal, and the gradient of what
    divides by their deviation grows by 1 / √ε from norm to norm."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def step(model: nn.Module, example: Any, idle: tuple[str, ...]) -> None:
    """One optimizer step on all that the network answers; every binary layer must get a gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    args, kwargs = arguments(model, example())
    answers = [t for t in tensors_in(model(*args, **kwargs)) if t.requires_grad]
    sum((t * torch.randn_like(t)).sum() / math.sqrt(t.numel()) for t in answers).backward()
    for name, layer in layers_of(model).items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in idle):
            continue
        assert layer.latent.grad is not None, f"{name} gets no gradient"
        assert all(map(math.isfinite, torch.aminmax(layer.latent.grad))), f"{name} gets a gradient that is not finite"
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def hard_floats(floats: nn.Module, model: nn.Module) -> nn.Module:
    """The float network with the hard weights of the binary one."""
    hard = copy.deepcopy(floats)
    hard.load_state_dict(pc.hard_state_dict(model), strict=True)
    return hard.eval().requires_grad_(False)


def layers_of(model: nn.Module) -> dict[str, BinaryLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}


@torch.no_grad()
def answers(model: nn.Module, example: Any, part: str = "") -> list[Tensor]:
    """Every tensor of floats that a part of a network answers, or all of it."""
    torch.manual_seed(1)
    found: list[Any] = []
    hook = model.get_submodule(part).register_forward_hook(lambda _module, _inputs, answer: found.append(answer))
    args, kwargs = arguments(model, copy.deepcopy(example))
    model(*args, **kwargs)
    hook.remove()
    return [t for t in tensors_in(found) if t.is_floating_point() and t.numel()]


def near(found: list[Tensor], expected: list[Tensor], what: str) -> None:
    assert [t.shape for t in found] == [t.shape for t in expected], f"{what} answers in other shapes"
    for one, other in zip(found, expected, strict=True):
        size = float(other.abs().max())
        apart = float((one - other).abs().max())
        assert apart <= CLOSE * max(size, 1e-6), f"{what} is off by {apart:.2g} of {size:.2g}"
