"""What ships before its weights are hard, or with the statistics of other weights, is noticed; correct use is not."""

import copy
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import proxconnect as pc
from proxconnect.deploy.hardening import BinaryInputsWarning

SAMPLES = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


def float_net(norm: Callable[[int], nn.Module] = nn.BatchNorm1d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), norm(16), nn.Hardtanh(), nn.Linear(16, 16), norm(16), nn.Linear(16, 4))


def trained(model: Any, optimizer: torch.optim.Optimizer | None = None, steps: int = 4) -> Any:
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(SAMPLES).square().mean().backward()
        optimizer.step()
    return model


def sharpened(
    taken: int, *, weights: str = "bnn++", activations: str | None = None, norm: Any = nn.BatchNorm1d, **options: Any
) -> nn.Module:
    """A network after `taken` of the 20 steps of a schedule."""
    model = pc.binarize(float_net(norm), weights, activations)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pc.Sharpening(optimizer, model, steps=20, hold=2, **options)
    return trained(model, optimizer, taken)


def binarized(weights: str) -> nn.Module:
    """A trained float network, binarized."""
    return pc.binarize(trained(float_net()), weights)


def loaded(state: dict[str, Tensor], weights: str) -> nn.Module:
    model = pc.binarize(float_net(), weights)
    model.load_state_dict(state)
    return model


def reestimated(model: nn.Module) -> nn.Module:
    return pc.reestimate_batchnorm(model, [SAMPLES])


def stayed_float(weights: str) -> nn.Module:
    """A network trained in full precision, with its rule."""
    model = pc.binarize(float_net(), weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pc.post_training(optimizer, model)
    return trained(model, optimizer)


SOFT_NORMS = r"^batch norms \(4\) have statistics of soft .* in 3 \({}, .+\), .*: call proxconnect.reestimate_batchnorm"
FLOAT_NORMS = r"^batch norms \(4\) have statistics of the float network.* call proxconnect.reestimate_batchnorm"
SOFT = r"^3 \({}, .* at μ = .* are soft, .* train until Sharpening reaches its end"
NOTICED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "an unfinished schedule": (lambda: sharpened(3), SOFT_NORMS.format("weights")),
    "an unfinished schedule, in a new process": (
        lambda: loaded(sharpened(3).state_dict(), "bnn++"), SOFT_NORMS.format("weights")
    ),
    "an unfinished schedule of activations": (
        lambda: sharpened(3, weights="bc", activations="poly+", part="activations"), SOFT_NORMS.format("activations")
    ),
    "training after the estimate": (lambda: trained(reestimated(sharpened(3))), SOFT_NORMS.format("weights")),
    "a schedule that was never started": (
        lambda: trained(pc.binarize(float_net(), "pc")), SOFT_NORMS.format("weights")
    ),
    "a fixed soft pair": (
        lambda: trained(pc.binarize(float_net(), pc.PAIRS["md"].at(1.0))), SOFT_NORMS.format("weights")
    ),
    "full precision": (lambda: trained(pc.binarize(float_net(), "fp")), SOFT_NORMS.format("weights")),
    "full precision by a rule": (lambda: stayed_float("bc"), SOFT_NORMS.format("weights")),
    "a float network": (lambda: binarized("bnn++"), FLOAT_NORMS),
    "a float network, by signs": (lambda: binarized("bc"), FLOAT_NORMS),
    "a float network, by signs, a copy": (lambda: copy.deepcopy(binarized("bc")), FLOAT_NORMS),
    "a float network, loaded later": (lambda: loaded(trained(float_net()).state_dict(), "bnn+"), FLOAT_NORMS),
    "no norms, an unfinished schedule": (lambda: sharpened(3, norm=nn.LayerNorm), SOFT.format("weights")),
    "no norms, in a new process": (
        lambda: copy.deepcopy(sharpened(3, norm=nn.LayerNorm)), SOFT.format("weights")
    ),
    "no norms, never started": (
        lambda: trained(pc.binarize(float_net(nn.LayerNorm), "pc")), SOFT.format("weights")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTICED)
@pytest.mark.parametrize("ship", [pc.pack, pc.hard_state_dict])
def test_what_ships_too_early_is_noticed_and_the_advice_helps(ship: Callable[[nn.Module], Any], name: str) -> None:
    make, words = NOTICED[name]
    model = make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", BinaryInputsWarning)
        ship(model)
    assert [(bool(re.match(words, str(said.message))), said.filename) for said in caught] == [(True, __file__)]
    if "reestimate" in words:
        quietly(ship, reestimated(model))


def quietly(ship: Callable[[nn.Module], Any], model: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", BinaryInputsWarning)
        ship(model)


class FrozenNorm(nn.BatchNorm1d):
    """A batch norm whose statistics no training changes."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


def frozen() -> Any:
    """A trained float network with frozen norms, binarized."""
    model = trained(float_net())
    for norm in (model[1], model[4]):
        norm.__class__ = FrozenNorm
    return pc.binarize(model, "bc")


def averaged() -> nn.Module:
    """A copy that follows the parameters and buffers of a network in training."""
    model = frozen()
    mean = AveragedModel(model, use_buffers=True)
    mean.update_parameters(model)
    mean.update_parameters(trained(model))
    return mean.module


def loaded_floats(model: nn.Module) -> nn.Module:
    """The float network with the weights ±α of `model`."""
    net = float_net()
    net.load_state_dict(pc.hard_state_dict(model))
    return net


def ran() -> nn.Module:
    """A new network that saw data in `train()` and had no optimizer."""
    model = pc.binarize(float_net(), "bc").train()
    with torch.no_grad():
        model(SAMPLES)
    return model


def norms_before_the_binary_layers() -> nn.Module:
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 16), nn.Linear(16, 4))
    return pc.binarize(trained(net), "bnn++")


QUIET: dict[str, Callable[[], nn.Module]] = {
    "a new network": lambda: pc.binarize(float_net(), "bnn++", "poly+"),
    "a new network without norms": lambda: pc.binarize(float_net(nn.LayerNorm), "pc"),
    "a trained float network without norms": lambda: pc.binarize(trained(float_net(nn.LayerNorm)), "bnn++"),
    "norms before the binary layers": norms_before_the_binary_layers,
    "a finished schedule": lambda: sharpened(20),
    "a finished schedule of both": lambda: sharpened(20, weights="bnn++", activations="poly+", part="both"),
    "a finished schedule, in a new process": lambda: loaded(sharpened(20).state_dict(), "bnn++"),
    "re-estimated, in a new process": lambda: loaded(reestimated(sharpened(3)).state_dict(), "bnn++"),
    "re-estimated, a copy": lambda: copy.deepcopy(reestimated(binarized("bc"))),
    "signs from the first step": lambda: trained(pc.binarize(float_net(), "bc")),
    "signs that only ran": ran,
    "signs from a float network": lambda: trained(binarized("bc")),
    "signs from a float network, in a new process": lambda: loaded(trained(binarized("bnn+")).state_dict(), "bnn+"),
    "weights that are hard already": lambda: pc.binarize(loaded_floats(sharpened(20)), "bnn++"),
    "signs with frozen norms": lambda: trained(frozen()),
    "signs with frozen norms, averaged": averaged,
}


@pytest.mark.parametrize("name", QUIET)
def test_correct_use_is_not_warned_of(name: str) -> None:
    model = QUIET[name]()
    for ship in (pc.pack, pc.hard_state_dict):
        quietly(ship, model)
