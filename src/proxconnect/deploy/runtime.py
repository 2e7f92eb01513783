"""The runtime: packed models that run as fused graphs, made of a trained model or loaded from a file."""

import os
from dataclasses import dataclass
from typing import Any

from torch import nn

from proxconnect.deploy import packed
from proxconnect.deploy.fusion import Floats, Fusion, Proof, fuse, prove
from proxconnect.deploy.packed import Inputs, Remainder, Vectors


@dataclass(frozen=True)
class Packing:
    """How a packed model runs and what an example showed: `print(model.packing)`."""

    fusion: Fusion
    proof: Proof | None
    """None without an example."""

    def __str__(self) -> str:
        return str(self.fusion) if self.proof is None else f"{self.fusion}\n{self.proof}"


def pack(
    model: nn.Module, *, inputs: Inputs = "exact", remainder: Remainder = "float", vectors: Vectors = "float32",
    floats: Floats | None = None, example: Any = None,
) -> nn.Module:  # fmt: skip
    """A new model, in `eval()` and without gradients, whose binary layers hold 1 bit a weight plus scales.

    It computes what `model` does with hard weights and hard activations. On equal inputs, layers with binary inputs
    answer equal to the bit on every machine, and those with float inputs up to the order of a sum. Whole answers are
    equal up to how torch rounds float layers, unless that turns a sign or a sort behind them (docs/runtime.md). Layers
    of the pair `fp` are made binary too. `model` stays as it is. The kernels compute where they were built, on CPUs,
    and torch everywhere else. Where the model, or a part of it, is a fixed graph, it runs fused (docs/runtime.md);
    `packing` of the new model says what does.

    Args:
        model: a binary model.
        inputs: how kernels multiply float inputs, "exact" or "int8": rounded to 8 bits, each row of a linear layer's
            input and each patch of a convolution's by its own step s = max|x|/127, which is faster. An output is then
            off by at most scale · n · s/2, in the root mean square by scale · s · √(n/12), where n entries are summed.
        remainder: what becomes of the `nn.Linear`, `nn.Conv2d` and `nn.Embedding` that are not binary, "float" or
            "int8": weights and inputs of 8 bits, rows of 8 bits for embeddings.
            `proxconnect.deploy.packed.int8.Int8Product` and `proxconnect.deploy.packed.embedding.Int8Embedding` bound
            the error. Subclasses stay float, and so do layers whose weight is shared or taken by other modules. Files
            keep it.
        vectors: "float32", or "float16" to round every float32 vector (scales, biases, norms, position embeddings) to
            the nearest values that float16 has, but for those that it cannot hold to 2⁻¹⁰. They stay float32 in
            memory; the file stores them in 16 bits.
        floats: what computes convolutions by float weights and plain attention (no mask, not causal) in graphs, "torch"
            or "fast": kernels where this machine has AMX, which round otherwise, about as exactly. A sign near 0 may
            turn by that, as it may where torch sums in another order; hence by default "fast" where no layer has binary
            inputs, else "torch". In no file.
        example: what `model` takes, as for `summary`: a tensor, a tuple of arguments or a mapping of keyword arguments.
            With it, every layer and every fused operation is compared with its original on equal inputs, and
            `packing.proof` of the new model says how near these and the whole answer come to `model`.

    Raises:
        ValueError: without a binary layer, for latents, quantizers or paddings that have no packed form, for NaN or
            infinity in latents, their biases and shifts or in batch norms, for another `inputs`, `remainder`, `vectors`
            or `floats`, and for a model wrapped by `torch.compile(model)` or the like.
        TypeError: for such types of layers.
        ProofError: if a layer or a fused operation differs on the example by more than rounding; the message names it.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> packed = pc.pack(pc.binarize(model, "bnn++"))
        >>> x = torch.randn(3, 4)
        >>> torch.testing.assert_close(packed(x), model.eval()(x))
    """
    small = packed.pack(model, inputs=inputs, remainder=remainder, vectors=vectors)
    fusion = fuse(small, floats)
    vars(small)["packing"] = Packing(fusion, None if example is None else prove(model, small, example))
    return small


def load(
    path: str | os.PathLike[str], float_model: nn.Module, *, inputs: Inputs = "exact", floats: Floats | None = None
) -> nn.Module:
    """The packed model that `save` wrote: a new module in `eval()` on the CPU, with the architecture of `float_model`.

    `float_model` stays as it is and may be on the meta device: none of its parameters is ever copied. Buffers that are
    not persistent are, so they must have values. `inputs` and `floats` are as of `pack`, and in no file; what runs
    fused is found anew. PackedFileError for a damaged, foreign or newer file and for a model of another architecture,
    OSError for a file that cannot be read.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> packed = pc.pack(pc.binarize(copy.deepcopy(model), "bnn++"))
        >>> pc.save(packed, "model.safetensors")
        >>> x = torch.randn(3, 4)
        >>> torch.testing.assert_close(pc.load("model.safetensors", model)(x), packed(x))
    """
    model = packed.load(path, float_model, inputs=inputs)
    vars(model)["packing"] = Packing(fuse(model, floats), None)
    return model
