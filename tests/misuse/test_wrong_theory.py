"""Pairs, quantizers, theory, bits and kernels used wrongly: what is said, each time."""

import math

import pytest
import torch
from refusals import Wrong, is_refused
from subjects import rows
from torch import nn

import proxconnect as pc
from proxconnect import kernels, theory
from proxconnect.deploy import packed
from proxconnect.pairs import prox, transform

PAIR = pc.PAIRS["bnn++"]


NINES = torch.tensor([[0.0] * 3, [9.0] * 3], dtype=torch.float64)


def ONE(x: torch.Tensor, mu: float) -> torch.Tensor:
    return torch.ones_like(x)


def run(zeros: int | None = None) -> theory.Trajectory:
    """Of 4 steps; the latents of row `zeros` are 0."""
    latents = torch.randn(5, 3)
    if zeros is not None:
        latents[zeros] = 0.0
    return theory.Trajectory.from_latents(latents, 0.1)


def product(input: object = None, **options) -> torch.Tensor:
    """Of signs by a kernel, with 8 inputs and 16 outputs."""
    panels = kernels.panels(packed.pack_bits(torch.randn(16, 8)), 16, 8)
    return kernels.binary_linear(
        rows() if input is None else input, **({"panels": panels, "out_features": 16} | options)
    )


WRONG = {
    "pair: no μ": Wrong(lambda: PAIR.forward(rows()), ValueError, "pass mu, or fix it with .at(mu)"),
    "pair: negative μ": Wrong(lambda: PAIR.forward(rows(), -1.0), ValueError, "μ > 0; got μ = -1"),
    "pair: μ in words": Wrong(lambda: PAIR.forward(rows(), "2"), TypeError, "μ takes a number; got str"),
    "pair: a list": Wrong(lambda: PAIR.forward([1.0], 2.0), TypeError, "takes a float tensor; got list"),
    "pair: numpy": Wrong(lambda: PAIR.backward(rows().numpy(), 2.0), TypeError, "takes a float tensor; got ndarray"),
    "pair: a number": Wrong(lambda: PAIR.forward(0.3, 2.0), TypeError, "takes a float tensor; got float"),
    "pair: integers": Wrong(lambda: PAIR.forward(torch.arange(3), 2.0), TypeError, "got torch.int64"),
    "pair: at too small a μ": Wrong(lambda: pc.PAIRS["pc"].at(0.5), ValueError, "μ >= 1; got μ = 0.5"),
    "Pair: a name as prox": Wrong(lambda: pc.Pair("mine", prox="sign"), TypeError, "takes a Prox of proxconnect.pair"),
    "Pair: a function as prox": Wrong(lambda: pc.Pair("mine", torch.sign), TypeError, "theory.synthesize(transform"),
    "Pair: the class of a prox": Wrong(lambda: pc.Pair("mine", prox.PARQ), TypeError, "as prox.parq"),
    "Pair: parts exchanged": Wrong(lambda: pc.Pair("mine", transform.hardtanh, prox.sign), TypeError, "as prox.parq"),
    "prox: fixed in words": Wrong(lambda: prox.tanh.at("2"), TypeError, "Tanh(): μ takes a number; got str"),
    "transform: fixed at -1": Wrong(lambda: transform.sign_swish.at(-1), ValueError, "SignSwish() needs a finite sha"),
    "Pair: no name": Wrong(lambda: pc.Pair(prox.sign, transform.hardtanh), TypeError, "takes a string as name"),
    "Heuristic: names": Wrong(lambda: pc.Heuristic("h", "sign", "ste"), TypeError, "forward of 'h' takes a callable"),
    "Heuristic: a number as B": Wrong(lambda: pc.Heuristic("h", prox.sign, 1.0), TypeError, "backward of 'h' takes"),
    "Heuristic: μ as sharpness": Wrong(
        lambda: pc.Heuristic("h", prox.sign, transform.hardtanh.derivative, 2.0), TypeError, "Sharpness(lowest, start"
    ),
    "quantizer: negative μ": Wrong(lambda: pc.Quantizer("bnn++", mu=-1.0), ValueError, "μ > 0; got μ = -1"),
    "quantizer: NaN": Wrong(lambda: pc.Quantizer("bnn++", mu=math.nan), ValueError, "μ > 0; got μ = nan"),
    "quantizer: two μ": Wrong(lambda: pc.Quantizer("bnn++", mu=torch.ones(2)), TypeError, "μ takes a number; got Tens"),
    "quantizer: a dimension alone": Wrong(
        lambda: pc.Quantizer("bc", channel_dims=0), TypeError, "takes a tuple of dimensions, as (0, 1); got 0"
    ),
    "quantizer: no such dimension": Wrong(
        lambda: pc.Quantizer("bc", channel_dims=(3,))(rows()), ValueError, "no dimensions of a tensor of shape (4, 8)"
    ),
    "quantizer: magnitude 0": Wrong(
        lambda: pc.Quantizer("bnn++", None, magnitude=0.0), ValueError, "magnitude must be positive and finite; got 0"
    ),
    "quantizer: learned scale without a start": Wrong(
        lambda: pc.Quantizer("bnn++", "learned")(rows()), RuntimeError, "call start_scale(latent)"
    ),
    "decompose: unknown": Wrong(lambda: theory.decompose("bnn-"), ValueError, "did you mean 'bnn'"),
    "decompose: no μ": Wrong(lambda: theory.decompose("bnn++"), ValueError, "pass mu, or fix it with .at(mu)"),
    "decompose: no domain": Wrong(lambda: theory.decompose("bc", domain=None), TypeError, "two numbers, (low, high)"),
    "decompose: half a domain": Wrong(lambda: theory.decompose("bc", domain=5), TypeError, "two numbers, (low, high)"),
    "decompose: domain of three": Wrong(
        lambda: theory.decompose("bc", domain=(1, 2, 3)), TypeError, "two numbers, (low, high); got (1, 2, 3)"
    ),
    "decompose: the class of a module": Wrong(
        lambda: theory.decompose(nn.Tanh), theory.ProbeError, "forward raised TypeError"
    ),
    "decompose: a function of one number": Wrong(
        lambda: theory.decompose(lambda x: 1.0 if x > 0 else -1.0), theory.ProbeError, "use torch.where(condition, a, b"
    ),
    "decompose: a function of math": Wrong(
        lambda: theory.decompose(torch.tanh, lambda x: math.cosh(x)), theory.ProbeError, "instead of those of math"
    ),
    "decompose: a heuristic of one number": Wrong(
        lambda: theory.decompose(pc.Heuristic("h", lambda x, mu: 1.0 if x > 0 else -1.0, ONE)), theory.ProbeError,
        "use torch.where(condition, a, b)",
    ),
    "decompose: a slope of a sum": Wrong(
        lambda: theory.decompose(torch.tanh, theory.autograd_derivative(torch.sum)), theory.ProbeError,
        "an elementwise callable of one tensor: got shape () for a tensor of shape (120,)",
    ),
    "autograd_derivative: of a sum": Wrong(
        lambda: theory.autograd_derivative(torch.sum)(rows()), theory.ProbeError, "got shape () for a tensor of shape"
    ),
    "autograd_derivative: of nothing": Wrong(
        lambda: theory.autograd_derivative(lambda x: None)(rows()), theory.ProbeError, "got NoneType for a tensor"
    ),
    "prox_of: a regularizer of nothing": Wrong(
        lambda: theory.prox_of(lambda z: None), theory.ProbeError, "regularizer must return a tensor; got NoneType"
    ),
    "correct: a function of one number": Wrong(
        lambda: theory.correct(lambda x: max(1.0 - abs(x), 0.0)), theory.ProbeError, "use torch.where(condition, a, b)"
    ),
    "correct: a legitimate pair": Wrong(lambda: theory.correct("bnn++"), TypeError, "needs no correction"),
    "correct: a tensor": Wrong(lambda: theory.correct(torch.ones(3)), TypeError, "takes a Heuristic, its name or a"),
    "synthesize: names": Wrong(
        lambda: theory.synthesize("hardtanh", "sign", "mine"), TypeError, "must be a callable of one tensor; got str"
    ),
    "synthesize: a falling prox": Wrong(
        lambda: theory.synthesize(transform.hardtanh, torch.neg, "mine"), ValueError, "give a nondecreasing one"
    ),
    "average: nothing": Wrong(lambda: theory.average([]), ValueError, "takes at least one prox"),
    "average: negative weights": Wrong(
        lambda: theory.average([prox.sign, prox.sign], [-0.5, 1.5]), ValueError, "a weight ≥ 0 for each of 2 maps"
    ),
    "compose: a heuristic": Wrong(
        lambda: theory.compose(transform.hardtanh, "bnn+"), TypeError, "theory.correct makes a Pair of a heuristic"
    ),
    "rescale: by 0": Wrong(lambda: theory.rescale("bnn", inner=0), ValueError, "inner must be positive and finite"),
    "potential: of a pair": Wrong(lambda: theory.potential(PAIR), TypeError, "takes a Prox, as that of a pair"),
    "certificate: no run": Wrong(lambda: theory.certificate(None, "bnn++"), TypeError, "takes a Trajectory first"),
    "certificate: latents": Wrong(lambda: theory.certificate(rows(), "bnn++"), TypeError, "Trajectory.from_latents"),
    "certificate: points of another size": Wrong(
        lambda: theory.certificate(run(), "bnn++", at=torch.zeros(4)), ValueError, "(m, n) with n = 3; got (4,)"
    ),
    "certificate: a list of points": Wrong(
        lambda: theory.certificate(run(), "bnn++", at=[0.0, 0.0, 0.0]), TypeError, "at takes a tensor of shape (n,)"
    ),
    "certificate: a loss without gradient": Wrong(
        lambda: theory.certificate(run(), "bnn++", loss=lambda w: 1.0), ValueError, "differentiable by autograd"
    ),
    "certificate: a loss of one number": Wrong(
        lambda: theory.certificate(run(), "fp", loss=lambda w: w.sum() if w > 0 else -w.sum()), ValueError,
        "loss raised RuntimeError for a float64 weight vector, (3,)",
    ),
    "certificate: a loss that is NaN": Wrong(
        lambda: theory.certificate(run(), "bnn++", loss=lambda w: w.sum() * math.nan), ValueError,
        "not finite at the weights of step 1",
    ),
    "certificate: a loss with an infinite slope": Wrong(
        lambda: theory.certificate(run(zeros=3), "fp", loss=lambda w: w.abs().sqrt().sum()), ValueError,
        "not finite at the weights of step 4",
    ),
    "certificate: a loss that is NaN at a point": Wrong(
        lambda: theory.certificate(run(), "fp", loss=lambda w: w.sum() * (0 * (w - 9).abs().log()).sum(), at=NINES),
        ValueError, "the loss is NaN at comparison point 1",
    ),
    "certificate: no trajectory but its recorder": Wrong(
        lambda: theory.certificate(object(), "fp"), TypeError, "of Recorder.trajectories() or Trajectory.from_latents"
    ),
    "trajectory: one point": Wrong(
        lambda: theory.Trajectory.from_latents(torch.randn(1, 3), 0.1), ValueError, "needs at least one step"
    ),
    "bits: of bytes": Wrong(
        lambda: packed.pack_bits(torch.zeros(4, dtype=torch.uint8)), TypeError, "float or signed integer tensor"
    ),
    "bits: of numpy": Wrong(lambda: packed.pack_bits(rows().numpy()), TypeError, "a tensor is needed; got ndarray"),
    "bits: of NaN": Wrong(lambda: packed.pack_bits(torch.tensor([math.nan])), ValueError, "NaN has no sign to pack"),
    "bits: too few": Wrong(
        lambda: packed.unpack_bits(torch.zeros(1, dtype=torch.uint8), (3, 4)), ValueError, "12 signs are 2 bytes"
    ),
    "bits: a list": Wrong(lambda: packed.unpack_bits([0], (8,)), TypeError, "a tensor is needed; got list"),
    "packed layer: by itself": Wrong(lambda: packed.PackedLayer(), TypeError, "call pack(binary_model) or load(path"),
}  # fmt: skip

WRONG_OF_KERNELS = {
    "integers": Wrong(lambda: product(rows().long()), TypeError, "input must be float32 on the CPU; got torch.int64"),
    "doubles": Wrong(lambda: product(rows().double()), TypeError, "got torch.float64 on cpu"),
    "halves": Wrong(lambda: product(rows().half()), TypeError, "got torch.float16 on cpu"),
    "another width": Wrong(lambda: product(rows(100)), ValueError, "make them by proxconnect.kernels.panels"),
    "other outputs": Wrong(lambda: product(out_features=64), ValueError, "make them by proxconnect.kernels.panels"),
    "no panels": Wrong(lambda: product(panels=None), TypeError, "panels must be a tensor; got NoneType"),
    "bits as panels": Wrong(
        lambda: product(panels=packed.pack_bits(torch.randn(16, 8))), TypeError, "panels must be contiguous int64"
    ),
    "scales of another layer": Wrong(
        lambda: product(scale=torch.ones(3)), ValueError, "scale must have 1 or 16 entries; got (3,)"
    ),
    "an unknown instruction set": Wrong(
        lambda: product(instruction_set="mmx"), ValueError, "got instruction_set='mmx'"
    ),
    "bits alone as accumulator": Wrong(lambda: product(accumulator=8), TypeError, "as Accumulator(bits=8); got int"),
    "heads that do not divide": Wrong(
        lambda: kernels.attention_of_rows(torch.randn(1, 4, 25), 2), ValueError, "3 · heads · width entries"
    ),
    "no heads": Wrong(lambda: kernels.attention_of_rows(torch.randn(1, 4, 24), 0), ValueError, "heads at least 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_use_of_theory_is_refused(name):
    is_refused(WRONG[name])


@pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")
@pytest.mark.parametrize("name", WRONG_OF_KERNELS)
def test_a_wrong_use_of_kernels_is_refused(name):
    is_refused(WRONG_OF_KERNELS[name])
