"""What `pack(model, example=...)` shows, and what it refuses."""

from typing import Any

import pytest
import torch
from nets import binary, folds_norms, has_float_convs, image, plain, residual
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.fusion import ProofError, prove
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.fusion.remainder import ImageNorm
from proxconnect.deploy.fusion.sign_convs import SignConvByFloats


@folds_norms
def test_signs_are_equal_to_the_bit():
    proof = pc.pack(binary(residual()), example=image()).packing.proof
    assert (proof.signs, proof.signs_gap, proof.floats, proof.rounded, proof.fast) == (2, 0.0, 0, 0, 0)
    assert proof.operations == 4


def test_floats_are_close():
    proof = pc.pack(binary(residual(32), activations=None), example=image()).packing.proof
    assert proof.floats == 2
    assert 0 < proof.floats_gap < 1e-5
    assert 0 < proof.answer_gap < 1e-5


def test_rounded_inputs_have_their_error_stated():
    proof = pc.pack(binary(residual(32), activations=None), inputs="int8", example=image()).packing.proof
    assert 1e-4 < proof.floats_gap < 0.1
    assert f"2 binary layers with float inputs: differ by at most {proof.floats_gap:.1e} of the largest entry" in str(
        proof
    )


def test_rounded_inputs_beyond_their_bound_are_found():
    model = binary(residual(32), activations=None)
    small = pc.pack(model, inputs="int8")
    small[3].conv.scale.mul_(1000)
    with pytest.raises(ProofError, match=r"layer '3\.conv' and its binary one"):
        prove(model, small, image())


def test_in_c_order_the_gap_of_floats_is_told():
    model = pc.pack(binary(plain()), example=image().contiguous())
    assert "whole output, packed compared with the hard network: equal to the bit" in str(model.packing)


def test_a_layer_that_differs_is_named():
    model = binary(residual())
    small = pc.pack(model)
    small[3].conv.bits.bitwise_not_()
    with pytest.raises(ProofError, match=r"layer '3\.conv' and its binary one"):
        prove(model, small, image())


def test_a_float_layer_that_differs_is_named():
    model = binary(residual(32), activations=None)
    small = pc.pack(model)
    small[3].conv.bits.bitwise_not_()
    with pytest.raises(ProofError, match=r"layer '3\.conv' and its binary one"):
        prove(model, small, image())


@pytest.mark.parametrize("factor", [1 + 1e-6, torch.nan])
def test_a_layer_of_signs_must_be_equal_to_the_bit(factor):
    model = binary(residual())
    small = pc.pack(model)
    small[3].conv.scale.mul_(factor)
    with pytest.raises(ProofError, match=r"layer '3\.conv' and its binary one"):
        prove(model, small, image())


def test_the_model_is_left_as_it_was():
    model = binary(residual()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pc.pack(model, example=image())
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_an_example_that_the_model_does_not_take():
    with pytest.raises(RuntimeError) as caught:
        pc.pack(binary(residual()), example=torch.randn(2, 4, 8, 8))
    assert "`example` was run through the model" in "".join(caught.value.__notes__)


def test_keyword_arguments_and_raw_parameters():
    model = pc.binarize(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), activations="poly", keep=None).eval()
    proof = pc.pack(model.requires_grad_(False), example={"src": torch.randn(2, 5, 16)}).packing.proof
    assert proof.signs == 4
    assert proof.answer_gap == 0.0


def test_the_remainder_in_8_bits_is_within_its_bound():
    proof = pc.pack(binary(residual()), remainder="int8", example=image()).packing.proof
    assert proof.rounded == 2
    assert 0 < proof.rounded_gap < 0.05
    assert proof.signs_gap == 0.0
    assert "2 float layers in int8: differ by at most" in str(proof)


def test_vectors_in_16_bits_move_the_answers_of_signs_a_little():
    proof = pc.pack(binary(residual()), vectors="float16", example=image()).packing.proof
    assert 0 < proof.signs_gap < 2**-9


def test_a_layer_in_8_bits_that_differs_is_named():
    model = binary(residual())
    small = pc.pack(model, remainder="int8")
    small[0].levels.neg_()
    with pytest.raises(ProofError, match="layer '0' in 8 bits is off by"):
        prove(model, small, image())


class Ranking(nn.Module):
    """Sorts boxes by scores of which two are equal but for rounding, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16)
        self.head = nn.Linear(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        features = self.norm(self.conv(self.stem(image))).mean((-2, -1))
        order = features[:, 4:6].argsort(-1, descending=True)
        return self.head(features[:, 6:8].gather(-1, order))


@torch.no_grad()
def ranking(monkeypatch: pytest.MonkeyPatch, noise: float) -> nn.Module:
    """With such scores, in channels 4 and 5, and fused convolutions that round channel 5 otherwise than torch."""
    model: Any = binary(Ranking(), activations=None)
    norm = model.norm
    for tensor in (model.conv.latent, norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor[5] = tensor[4]
    norm.weight[4:6] = torch.tensor([1.0, 1 + 1e-6])
    norm.bias[4:6] = 0
    own = SignConvByFloats.__call__

    def noisy(self: SignConvByFloats, *args: Tensor) -> Any:
        answer = own(self, *args)
        answer[:, 5] *= 1 - noise
        return answer

    monkeypatch.setattr(SignConvByFloats, "__call__", noisy)
    return model


@folds_norms
@has_float_convs
@pytest.mark.filterwarnings("error")
def test_a_right_model_is_proved_though_rounding_swaps_near_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    x = image()
    small = pc.pack(ranking(monkeypatch, 4e-6), example=x)
    proof = small.packing.proof
    assert proof.operations_gap < 1e-5
    assert proof.graph_gap > 1e-2
    assert "(each layer is within its own bound, but signs near 0 may differ: compare accuracies)" in str(proof)
    assert not graph_forward(small)._is_given_up


@folds_norms
@has_float_convs
def test_what_is_more_than_rounding_is_found_though_a_sort_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = ranking(monkeypatch, 1e-3), image()
    with pytest.raises(ProofError, match="in the graph of the model, the fused operation of the layers conv, norm and"):
        pc.pack(model, example=x)
    with pytest.warns(UserWarning, match="given up.*the fused operation of the layers conv, norm"):
        pc.pack(model)(x)


@folds_norms
@has_float_convs
@torch.no_grad()
def test_rounding_that_a_norm_blows_up_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel of ones, of which a norm takes their mean, so that nothing but rounding is left."""
    layers = [nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), nn.PReLU(), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, 1)]
    model: Any = binary(nn.Sequential(*layers), activations=None)
    model[0].weight.zero_()
    model[0].bias.fill_(1)
    model[1].load_state_dict(nn.BatchNorm2d(16).state_dict() | {"running_mean": torch.ones(16)})
    model[1].running_var.zero_()
    own = ImageNorm.__call__
    monkeypatch.setattr(ImageNorm, "__call__", lambda self, *args: own(self, *args) + 3e-5)
    assert pc.pack(model, floats="torch", example=image()).packing.proof.operations == 2
    monkeypatch.setattr(ImageNorm, "__call__", lambda self, *args: own(self, *args) + 1e-3)
    with pytest.raises(ProofError, match="layers 1, 2 and"):
        pc.pack(model, floats="torch", example=image())
