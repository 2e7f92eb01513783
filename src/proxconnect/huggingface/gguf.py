"""Binary models from GGUF files: matrices of the type Q1_0 become binary layers, which train on or take adapters."""

import os
from glob import escape
from math import isclose
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import require_module
from proxconnect._support.text import some
from proxconnect.conversion import binarize
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.export.gguf.architecture import (
    Architecture,
    architecture_of,
    frequency_divisors,
    hyperparameters,
    require_supported,
)
from proxconnect.export.gguf.blocks import SIGNS, from_blocks
from proxconnect.export.gguf.container import BF16, F16, F32, Q1_0, Contents, GgufFileError, Stored, read_contents
from proxconnect.kernels.bits import unpack_bits
from proxconnect.layers import BinaryLayer
from proxconnect.pairs.pair import AnyPair

_DIVISORS = "rope_freqs.weight"
_EMBEDDING, _HEAD = "model.embed_tokens", "lm_head"


def from_gguf(path: str | os.PathLike[str], float_model: nn.Module, weights: str | AnyPair = "bnn++") -> nn.Module:
    """Load a GGUF file into a float language model, and make the layers with matrices of the type Q1_0 binary.

    Their latent weights are ±scale, so that their binary weights are exactly those of the file. They have a scale for
    each output, or for each 128 inputs of it if those of a row differ in any matrix. So does an embedding of Q1_0, with
    a head that is tied to it. All other values become floats.
    The model is one that `to_gguf` takes, built from its configuration. It changes in place, but not if the file is
    refused. The tokenizer is not read.

    Args:
        path: the file.
        float_model: the float model of transformers, with any weights, as `LlamaForCausalLM(config)`.
        weights: the pair of the binary layers, as for `binarize`.

    Returns:
        `float_model`, with binary layers.

    Raises:
        GgufFileError: for a file that is damaged, of another model, or without a matrix of Q1_0.
        ExportError: for another architecture than those of `to_gguf`.
        ValueError, TypeError: as for `binarize`, or if an argument has another type.
        OSError: if the file cannot be read.
    """
    require_module(float_model, "from_gguf(path, float_model)")
    architecture = architecture_of(float_model)
    _require_blank(float_model)
    config: Any = float_model.config
    contents = read_contents(path)
    require_supported(config, architecture)
    _require_same(float_model, architecture, contents)
    values, binary, has_groups = _read(path, float_model, architecture, contents)
    if not binary:
        raise GgufFileError("the file has no matrix of the type Q1_0, and so nothing that is binary: load it with "
                            "transformers, and call pc.binarize")  # fmt: skip
    group_size = SIGNS if has_groups else None
    head, embedding = (float_model.get_submodule(name) for name in (_HEAD, _EMBEDDING))
    has_embedding = _EMBEDDING in binary
    if has_embedding and head.weight is embedding.weight:
        binary.append(_HEAD)
    binarize(float_model, {escape(name): weights for name in binary}, keep=None, group_size=group_size,
             embeddings=has_embedding)  # fmt: skip
    with torch.no_grad():
        for key, value in values.items():
            name, _, part = key.rpartition(".")
            parameters = float_model.get_submodule(name)._parameters
            target = parameters["latent" if name in binary and part == "weight" else part]
            assert target is not None
            target.copy_(value)
    return float_model


def _read(
    path: str | os.PathLike[str], model: Any, architecture: Architecture, contents: Contents
) -> tuple[dict[str, Tensor], list[str], bool]:
    """Return the values of a file by the names of the model's parameters, and the names of the binary layers.

    The third value is True if scales within a row of one of these differ.
    """
    values, binary, has_groups = {}, [], False
    for name, other in architecture.modules(model.config.num_hidden_layers):
        module, order = model.get_submodule(name), architecture.row_order(other, model.config)
        for part in module._parameters:
            stored = contents.tensors.get(f"{other}.{part}")
            if stored is None:  # no bias, or a tied head
                continue
            floats = _floats(path, f"{other}.{part}", stored)
            if stored.kind == Q1_0 and isinstance(module, nn.Linear | nn.Embedding):
                binary.append(name)
                magnitudes = floats.abs()
                has_groups |= not torch.equal(magnitudes, magnitudes[:, :1].expand_as(magnitudes))
            values[f"{name}.{part}"] = floats if order is None else floats[torch.argsort(order)]
    divisors = frequency_divisors(model)
    if divisors is not None and not torch.allclose(_floats(path, _DIVISORS, contents.tensors[_DIVISORS]), divisors):
        raise GgufFileError(f"{_DIVISORS} of the file are others than config.rope_parameters give: correct them")
    return values, binary, has_groups


def _require_blank(model: nn.Module) -> None:
    """Raise ValueError if a model has binary or packed layers already, or no memory for values."""
    if any(isinstance(module, BinaryLayer | CompactLayer) for module in model.modules()):
        raise ValueError("float_model has binary or packed layers: build the float architecture, and the layers that "
                         "the file says become binary")  # fmt: skip
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("float_model is on the meta device, which holds no values: build it on the CPU")


def _require_same(model: Any, architecture: Architecture, contents: Contents) -> None:
    """Raise GgufFileError, which names the first difference, unless the file is of this model."""
    found = contents.fields.get("general.architecture")
    if found != architecture.name:
        raise GgufFileError(f"the file is of a {found!r}, and {type(model).__name__} is a {architecture.name!r}")
    for key, expected in hyperparameters(model.config, architecture).items():
        held = contents.fields.get(key, expected)
        same = held == expected
        if isinstance(held, float) and isinstance(expected, float):
            same = isclose(held, expected, rel_tol=1e-6)  # the file has float32
        if not same and not key.endswith("context_length"):
            raise GgufFileError(f"the file has {key} {held!r}, and the model {expected!r}: build it as the file says")
    expected_shapes = dict(_shapes(model, architecture))
    held_shapes = {name: tensor.shape for name, tensor in contents.tensors.items()}
    differing = {name for name, _ in held_shapes.items() ^ expected_shapes.items()}
    if differing:
        raise GgufFileError(f"{some(sorted(differing))} of the file and the model differ in shape, or one lacks them: "
                            "build the model with the sizes, biases and tied head of the file")  # fmt: skip


def _shapes(model: Any, architecture: Architecture) -> Any:
    """Yield the name in GGUF and the shape of each tensor of a model."""
    for name, other in architecture.modules(model.config.num_hidden_layers):
        for part, parameter in model.get_submodule(name)._parameters.items():
            is_tied = other == "output" and parameter is model.get_submodule(_EMBEDDING).weight
            if parameter is not None and not is_tied:
                yield f"{other}.{part}", tuple(parameter.shape)
    divisors = frequency_divisors(model)
    if divisors is not None:
        yield _DIVISORS, tuple(divisors.shape)


def _floats(path: str | os.PathLike[str], name: str, stored: Stored) -> Tensor:
    """Return a tensor of a file in float32."""
    with Path(os.fsdecode(path)).open("rb") as file:
        file.seek(stored.start)
        raw = bytearray(file.read(stored.bytes))
    data = torch.frombuffer(raw, dtype=torch.uint8)
    if stored.kind in (F32, F16, BF16):
        dtype = {F32: torch.float32, F16: torch.float16, BF16: torch.bfloat16}[stored.kind]
        values = data.view(dtype).float()
    elif stored.kind == Q1_0:
        values = _signed(name, data.numpy(), stored.shape)
    else:
        blocks = data.view(-1, 34)
        values = blocks[:, 2:].contiguous().view(torch.int8).float() * blocks[:, :2].contiguous().view(torch.float16)
    if not bool(values.isfinite().all()):
        raise GgufFileError(f"tensor {name!r} has NaN or infinite values")
    return values.reshape(stored.shape)


def _signed(name: str, blocks: Any, shape: tuple[int, ...]) -> Tensor:
    """Return ±scale from blocks of Q1_0."""
    if len(shape) != 2:
        raise GgufFileError(f"tensor {name!r} of the type Q1_0 has the shape {shape}, and is no matrix")
    bits, scales = from_blocks(blocks, *shape)
    return unpack_bits(bits, shape) * scales.repeat_interleave(SIGNS, dim=1)
