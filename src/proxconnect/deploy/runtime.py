"""Packed models that run as fused graphs: made from a trained model, or loaded from a file."""

import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from proxconnect._support.text import some
from proxconnect.deploy.fusion import Floats, Fusion, Proof, fuse, prove
from proxconnect.deploy.packed import Inputs, Remainder, Vectors, load_layers, pack_layers
from proxconnect.layers import BinaryLayer
from proxconnect.layers.one_sign import ADVICE, noted_inputs


@dataclass(frozen=True)
class Packing:
    """The report in `model.packing`: the parts that run fused, and the differences that `pack` measured. Print it."""

    fusion: Fusion
    proof: Proof | None
    """None for a loaded model, and for `pack` without an example."""

    def __str__(self) -> str:
        return str(self.fusion) if self.proof is None else f"{self.fusion}\n{self.proof}"


def pack(
    model: nn.Module, *, inputs: Inputs = "exact", remainder: Remainder = "float", vectors: Vectors = "float32",
    floats: Floats | None = None, example: Any = None,
) -> nn.Module:  # fmt: skip
    """Return a packed copy of a binary model: 1 bit a weight plus scales, for inference.

    The copy computes `model` with hard weights and activations. By default, layers with binary inputs are bit-exact on
    every machine, and layers with float inputs are exact up to the order of a sum. A whole answer may differ more if
    that turns a sign or a sort (docs/runtime.md). Layers of the pair `fp` become binary too.

    On CPUs the kernels compute if they are built, else torch. Fixed graphs run fused; `packing` of the copy lists them.

    Args:
        model: a binary model. It is not changed.
        inputs: the precision of float inputs in kernels. "int8" is faster: it rounds each row of a linear layer's input
            and each image of a convolution's to 8 bits, with step s = max|x| / 127. If an output sums n entries, it is
            off by at most scale · n · s/2, with a root mean square of scale · s · √(n/12).
        remainder: the form of `nn.Linear`, `nn.Conv2d` and `nn.Embedding` layers that are not binary. "int8" gives them
            8-bit weights and inputs, and embeddings 8-bit rows. `Int8Product` and `Int8Embedding` in
            `proxconnect.deploy.packed.layers.int8` bound the error. A tied head and embedding share their 8 bits.
            Subclasses stay float, and so do layers whose weight another kind of module uses. Files keep it.
        vectors: "float16" rounds float32 vectors (scales, biases, norms, position embeddings) to float16 values, except
            those that float16 cannot hold to 2⁻¹⁰. They stay float32 in memory and take 16 bits in the file.
        floats: what computes float convolutions, layer norms, GELUs and plain attention (no mask, not causal) in
            graphs. "fast" uses kernels if there are any for this machine (docs/runtime.md). They round differently from
            torch, which may turn a sign near 0. So the default is "torch" if a layer has binary inputs, else "fast".
            Files do not keep it.
        example: an input as for `summary`: a tensor, a tuple of arguments or a mapping of keyword arguments. Packed
            layers and fused operations are then compared with their originals; `packing.proof` reports the differences.
            A warning lists layers whose binary input had one sign only, as behind a ReLU.

    Returns:
        a new model in `eval()` whose parameters need no gradient.

    Raises:
        ValueError: if the model has no binary layer; if it or a module of it is wrapped, as by `torch.compile`; for
            latents, quantizers or paddings without a packed form; for NaN or infinity in a binary layer, a shift, a
            batch norm or a weight that gets 8 bits; for an unknown option.
        TypeError: if `model` is no module, or has a type of binary layer without a packed form.
        Exception: the model's own error, with a note, for an example that it does not take.
        ProofError: if a layer or a fused operation differs on the example by more than rounding; the message names it.

    Warns:
        UserWarning: if batch norms have statistics of soft weights or of a float network, until you call
            `reestimate_batchnorm`; or if there are none and weights are still soft after training.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> packed = pc.pack(pc.binarize(model, "bnn++"))
        >>> x = torch.randn(3, 4)
        >>> torch.testing.assert_close(packed(x), model.eval()(x))
    """
    packed = pack_layers(model, inputs=inputs, remainder=remainder, vectors=vectors)
    fusion = fuse(packed, floats)
    vars(packed)["packing"] = Packing(fusion, None if example is None else _proof(model, packed, example))
    return packed


def _proof(model: nn.Module, packed: nn.Module, example: Any) -> Proof:
    """Compare the models on an example, and warn of binary inputs that it finds to have one sign only."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    quantizers = {name: layer.input_quantizer for name, layer in layers.items() if layer.input_quantizer is not None}
    with noted_inputs(quantizers) as noted:
        proof = prove(model, packed, example)
    if constant := [name for name, inputs in noted.items() if inputs.has_one_sign]:
        warnings.warn(
            f"on the example the binary input of {some(constant)} has one sign only. Its signs are the same for every "
            f"example, so the packed network makes no use of it. {ADVICE}, and train again",
            stacklevel=3,
        )
    return proof


def load(
    path: str | os.PathLike[str], float_model: nn.Module, *, inputs: Inputs = "exact", floats: Floats | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:  # fmt: skip
    """Load a packed model that `save` wrote.

    Args:
        path: the packed file.
        float_model: the float architecture. It is not changed, and may be on the meta device, because its parameters
            are not copied. Buffers that are not persistent are copied, so they need values.
        inputs, floats: as for `pack`; no file keeps them.
        device: where the packed model shall be, such as "cuda".

    Returns:
        a new packed model in `eval()` on `device`. On the CPU fixed graphs are fused.

    Raises:
        PackedFileError: for a damaged, foreign or newer file, and for a model that is not float or does not fit it.
        ValueError: for an unknown option.
        TypeError: if `path` is no path, or `float_model` no module.
        OSError: if the file cannot be read.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> packed = pc.pack(pc.binarize(copy.deepcopy(model), "bnn++"))
        >>> pc.save(packed, "model.safetensors")
        >>> x = torch.randn(3, 4)
        >>> torch.testing.assert_close(pc.load("model.safetensors", model)(x), packed(x))
    """
    packed = load_layers(path, float_model, inputs=inputs).to(device)
    vars(packed)["packing"] = Packing(fuse(packed, floats), None)
    return packed
