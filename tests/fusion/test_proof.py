"""What `pack(model, example=...)` shows, and what it refuses."""

import pytest
import torch
from nets import binary, image, plain, residual
from torch import nn

import proxconnect as pc
from proxconnect.fusion import Proof, ProofError, prove


def test_signs_are_equal_to_the_bit():
    proof = pc.pack(binary(residual()), example=image()).packing.proof
    assert proof == Proof(2, 0.0, 0, 0.0, 0, 0.0, 0.0, 0.0)


def test_floats_are_close():
    proof = pc.pack(binary(residual(32), activations=None), example=image()).packing.proof
    assert proof.floats == 2
    assert 0 < proof.floats_gap < 1e-5
    assert 0 < proof.answer_gap < 1e-5


def test_rounded_inputs_have_their_error_stated():
    proof = pc.pack(binary(residual(32), activations=None), inputs="int8", example=image()).packing.proof
    assert 1e-4 < proof.floats_gap < 0.1
    assert f"2 binary layers with float inputs: apart by {proof.floats_gap:.1e} of the largest entry" in str(proof)


def test_rounded_inputs_beyond_their_bound_are_found():
    model = binary(residual(32), activations=None)
    small = pc.pack(model, inputs="int8")
    small[3].conv.scale.mul_(1000)
    with pytest.raises(ProofError, match=r"layer '3\.conv' and its binary one"):
        prove(model, small, image())


def test_in_c_order_the_gap_of_floats_is_told():
    model = pc.pack(binary(plain()), example=image().contiguous())
    assert "the whole answer, beside the hard model's: equal to the bit" in str(model.packing)


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
    assert proof.signs_gap == proof.graph_gap == 0.0
    assert "2 float layers in int8: apart by" in str(proof)


def test_vectors_in_16_bits_move_the_answers_of_signs_a_little():
    proof = pc.pack(binary(residual()), vectors="float16", example=image()).packing.proof
    assert 0 < proof.signs_gap < 2**-9


def test_a_layer_in_8_bits_that_differs_is_named():
    model = binary(residual())
    small = pc.pack(model, remainder="int8")
    small[0].levels.neg_()
    with pytest.raises(ProofError, match="layer '0' in 8 bits is off by"):
        prove(model, small, image())
