"""Files of llama.cpp, GGUF, from binary language models of transformers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from proxconnect._support import extras
from proxconnect._support.arguments import require_module
from proxconnect._support.atomic import replacing
from proxconnect._support.paths import require_target
from proxconnect._support.text import some
from proxconnect.deploy.packed.file.tensor_file import storable
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.deploy.packed.packing import pack_layers
from proxconnect.export.gguf import architecture as architectures
from proxconnect.export.gguf.architecture import Architecture
from proxconnect.export.gguf.blocks import block_scales, to_blocks
from proxconnect.export.gguf.vocabulary import Vocabulary, opened, vocabulary_of
from proxconnect.export.portable import ExportError

Remainder = Literal["float16", "q8_0"]
"""The type of matrices that are not binary."""

_Q8_0_BLOCK = 32


def to_gguf(
    model: nn.Module, path: str | os.PathLike[str], *, tokenizer: Any, remainder: Remainder = "float16"
) -> None:
    """Write a language model with binary weights as a GGUF file, which llama.cpp runs.

    Binary matrices become blocks of the type Q1_0: 128 signs and a scale, which is rounded to float16, in 18 bytes.
    Norms and biases stay float32. llama.cpp rounds the inputs of binary layers to 8 bits.

    The model is a LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM or Qwen3ForCausalLM of transformers. The
    inputs of each binary layer, and the rows of a binary embedding, must divide by 128. If they have scales for groups,
    so must the group size. If writing fails, an existing file is unchanged.

    Args:
        model: a packed or binary model.
        path: the file, such as "net.gguf".
        tokenizer: the folder or file "tokenizer.json" of the model's tokenizer, or a fast tokenizer of transformers.
        remainder: the type of matrices that are not binary, such as the embedding: "float16" or "q8_0", 8-bit blocks.

    Raises:
        ExportError: if GGUF cannot hold the model or its tokenizer, such as layers with binary inputs.
        ValueError: as for `pack` for a binary model, if `tokenizer` is None or `remainder` is another text.
        TypeError: if an argument has another type.
        OSError: if `path` cannot be written, or the tokenizer is not there.
        MissingExtraError: if the extra `gguf` is not installed.
    """
    require_module(model, "to_gguf(model, path, tokenizer=...)")
    target = require_target(path, "net.gguf")
    if remainder not in get_args(Remainder):
        raise ValueError(f"remainder must be 'float16' or 'q8_0'; got {remainder!r}")
    gguf = extras.require("gguf", "gguf")
    architecture, config = architectures.architecture_of(model), model.config
    architectures.require_supported(config, architecture)
    vocabulary = vocabulary_of(opened(tokenizer), config)
    packed = model if any(isinstance(module, PackedLayer) for module in model.modules()) else pack_layers(model)
    tensors = list(_tensors(gguf, packed, architecture, remainder))
    with replacing(target) as temporary:
        _write(gguf, temporary, config, architecture, vocabulary, tensors)


def _write(
    gguf: Any, path: Path, config: Any, architecture: Architecture, vocabulary: Vocabulary, tensors: list[Any]
) -> None:
    writer = gguf.GGUFWriter(path, architecture.name)
    try:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q1_0)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in architectures.hyperparameters(config, architecture).items():
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(key, value)
        vocabulary.add_to(writer)
        for name, array, kind in tensors:
            writer.add_tensor(name, array, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _tensors(
    gguf: Any, packed: Any, architecture: Architecture, remainder: Remainder
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, values and type, None for that of the values, of each tensor; ExportError names its module."""
    modules, config = dict(packed.named_modules(remove_duplicate=False)), packed.config
    names = dict(architecture.modules(config.num_hidden_layers))
    _require_all(packed, modules, names, architecture)
    for name, other in names.items():
        module, order = modules[name], architecture.row_order(other, config)
        if other == "output" and _weight(module) is _weight(modules["model.embed_tokens"]):
            continue  # llama.cpp then takes the embedding
        try:
            yield (f"{other}.weight", *_matrix(gguf, module, order, remainder))
        except ExportError as error:
            raise ExportError(f"layer {name!r}: {error}") from None
        bias = getattr(module, "bias", None)
        if bias is not None:
            yield f"{other}.bias", _floats(name, bias if order is None else bias[order]), None
    divisors = architectures.frequency_divisors(packed)
    if divisors is not None:
        yield "rope_freqs.weight", divisors.numpy(), None


def _require_all(
    packed: nn.Module, modules: dict[str, nn.Module], names: dict[str, str], architecture: Architecture
) -> None:
    """Raise ExportError if a module of the architecture is missing, or one holds state that it does not have."""
    missing = [name for name in names if name not in modules]
    held = {f"{name}.{key}" for name in names if name in modules for key in modules[name].state_dict()}
    held -= {f"{name}.bias" for name, other in names.items() if not architecture.may_have_bias(other)}
    extra = [key for key in packed.state_dict() if key not in held]
    if missing or extra:
        fault = f"it has no {some(missing)}" if missing else f"it has no place for {some(extra)}"
        raise ExportError(f"GGUF's {architecture.name} does not hold this {type(packed).__name__}: {fault}. Export "
                          "the architecture as transformers builds it, without adapters")  # fmt: skip


def _matrix(gguf: Any, module: nn.Module, order: Tensor | None, remainder: Remainder) -> tuple[Any, Any]:
    """Return the weight of a module, with rows in `order`, as an array and its type, or None for that of the array."""
    types = gguf.GGMLQuantizationType
    if isinstance(module, PackedLayer):
        return _binary(module, order), types.Q1_0
    weight: Any = module.weight
    values = _floats("weight", weight if order is None else weight[order])
    if values.ndim < 2:
        return values, None
    if remainder == "q8_0" and values.shape[1] % _Q8_0_BLOCK == 0:
        return gguf.quants.quantize(values, types.Q8_0), types.Q8_0
    if not bool(abs(values).max() <= torch.finfo(torch.float16).max):
        raise ExportError("its weight exceeds 65504, the most that float16 holds, or is NaN: load a sound checkpoint")
    return values.astype("f2"), None


def _binary(layer: PackedLayer, order: Tensor | None) -> Any:
    """Return the weight of a packed linear layer or embedding, with rows in `order`, in blocks of Q1_0."""
    if layer.spec.kind not in ("linear", "embedding"):
        raise ExportError(f"GGUF holds binary linear layers and embeddings, and this one is {layer.spec.kind!r}")
    if layer.has_binary_input or layer.accumulator is not None:
        part = "binary inputs" if layer.accumulator is None else "a limited accumulator"
        raise ExportError(f"it has {part}, which GGUF cannot hold: train it with binary weights alone, as "
                          "binarize(model, weights), or export with to_onnx")  # fmt: skip
    rows, columns = layer.spec.shape
    scale = storable("scale", layer.scale).float()
    scales = block_scales(scale if layer.group_size is None else scale[0], rows, columns)
    bits = storable("bits", layer.bits).view(rows, -1)
    if order is not None:
        scales, bits = scales[order], bits[order]
    return to_blocks(bits.flatten(), scales)


def _weight(module: nn.Module) -> object:
    """Return the tensor that holds the weight of a float or packed module, which tied modules share."""
    return module._held() if isinstance(module, CompactLayer) else module._parameters.get("weight")


def _floats(name: str, tensor: Tensor) -> Any:
    return storable(name, tensor).float().contiguous().numpy()
