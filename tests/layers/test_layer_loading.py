"""State dicts: float ones load into binary layers in plain torch, and a bad μ does not."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from proxconnect import BinaryConv2d, BinaryLinear, Quantizer


def float_model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def binary_model(**options: Any) -> nn.Sequential:
    model = float_model()
    BinaryConv2d.convert(model[0], **options)
    BinaryLinear.convert(model[3], **options)
    return model


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("activations", [None, "bnn++"])
def test_a_float_state_dict_loads_strictly(assign: bool, activations: str | None) -> None:
    plain, model = float_model(), binary_model(activations=activations)
    model[0].weight_quantizer.mu.fill_(7.0)
    state = plain.state_dict()
    names = list(state)
    model.load_state_dict(state, strict=True, assign=assign)
    assert list(state) == names, "the caller's state dict was changed"
    assert torch.equal(model[0].latent, plain[0].weight)
    assert torch.equal(model[3].latent, plain[3].weight)
    assert float(model[0].weight_quantizer.mu) == 7.0


def test_a_binary_state_dict_goes_round() -> None:
    model, other = binary_model(activations="pc"), binary_model(activations="pc")
    for module in model.modules():
        if isinstance(module, Quantizer):
            module.mu.fill_(4.5)
    other.load_state_dict(model.state_dict(), strict=True)
    for (name, ours), theirs in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_strict_still_means_strict() -> None:
    model, state = binary_model(), binary_model().state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected key.*0\.weight"):
        model.load_state_dict(state | {"0.weight": state["0.latent"]})
    with pytest.raises(RuntimeError, match=r"Missing key.*0\.latent"):
        model.load_state_dict({name: value for name, value in state.items() if name != "0.latent"})
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(float_model().state_dict() | {"0.weight": torch.zeros(1)})


@pytest.mark.parametrize("mu", [float("nan"), 0.0, -1.0])
def test_an_implausible_mu_is_refused_by_its_name(mu: float) -> None:
    model = binary_model()
    state = model.state_dict() | {"3.weight_quantizer.mu": torch.tensor(mu)}
    with pytest.raises(RuntimeError, match=r"3\.weight_quantizer\.mu, of pair 'bnn\+\+'"):
        model.load_state_dict(state)


@pytest.mark.parametrize("garbage", [float("nan"), 0.0, -1e30, float("inf")])
def test_a_loader_that_bypasses_load_state_dict_is_caught(garbage: float) -> None:
    """`to_empty` leaves μ as it finds the memory, and such loaders fill only what the file holds."""
    model = binary_model().to("meta").to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, Quantizer):
            module.mu.fill_(garbage)
    for act in (model.train, model.eval):
        with pytest.raises(ValueError, match=r"binarize\(\) after"):
            act()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("weights", ["bnn++", "bnn+", "poly", "bnn", "fp"])
@pytest.mark.parametrize("training", [True, False])
def test_a_copy_is_equal_and_apart(again: Any, weights: str, training: bool) -> None:
    model = binary_model(weights=weights, activations="ede").train(training)
    twin, x = again(model), torch.randn(5, 3, 4, 4)
    assert torch.equal(twin(x), model(x))
    with torch.no_grad():
        twin[0].latent.zero_()
        twin[0].weight_quantizer.mu.fill_(3.0)
    assert model[0].latent.abs().sum() > 0
    assert float(model[0].weight_quantizer.mu) != 3.0
    assert isinstance(twin[0], BinaryConv2d)


def test_torch_save_of_a_state_dict_needs_no_pickle_of_ours() -> None:
    model, buffer = binary_model(), io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = binary_model()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other[3].latent, model[3].latent)


def test_moves_between_dtypes() -> None:
    x = torch.randn(5, 3, 4, 4)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        model = binary_model(activations="bnn++").to(dtype)
        assert model(x.to(dtype)).dtype == dtype
        assert model.eval()(x.to(dtype)).dtype == dtype


def test_a_parameter_swapping_module_move_keeps_the_latent() -> None:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        layer = BinaryLinear(6, 4).double()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    assert list(layer._parameters) == ["latent", "bias"]
    assert layer.weight.dtype == torch.float64


def test_a_model_that_was_made_binary_on_the_meta_device_starts_at_the_usual_sharpness() -> None:
    """A float state dict has no μ, and the meta device left none."""
    plain = nn.Sequential(nn.Linear(4, 3))
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 3))
    BinaryLinear.convert(model[0])
    model.load_state_dict(plain.state_dict(), assign=True)
    assert float(model[0].weight_quantizer.mu) == pytest.approx(0.1)
    assert torch.equal(model.eval()(torch.ones(1, 4)), BinaryLinear.convert(plain[0]).eval()(torch.ones(1, 4)))


@pytest.mark.parametrize("garbage", [3e-20, 0.0, -1.0, float("nan"), 1e30])
def test_uninitialised_sharpness_is_noticed_and_mended_by_a_float_state_dict(garbage: float) -> None:
    plain, layer = nn.Linear(4, 3), BinaryLinear(4, 3)
    layer.weight_quantizer.mu.fill_(garbage)
    with pytest.raises(ValueError, match="never initialised"):
        layer.eval()
    with pytest.raises(RuntimeError, match="mu, of pair"):
        BinaryLinear(4, 3).load_state_dict(layer.state_dict())
    layer.load_state_dict(plain.state_dict())
    assert float(layer.weight_quantizer.mu) == pytest.approx(0.1)
