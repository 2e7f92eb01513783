"""Recognise decoder layers of LLaMA's kind, and read their weights for the kernel."""

from typing import Any

import torch
from torch import nn

from proxconnect.deploy.packed.layers.one_bit import KernelLinear
from proxconnect.kernels.decoder import BinaryWeight, DecoderLayer

_ARCHITECTURES = ("Llama", "Mistral", "Qwen2", "Qwen3")
_ACTIVATIONS = ("SiLU", "SiLUActivation")
_PROJECTIONS = {
    "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj", "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_NORMS = {"input_norm": "input_layernorm", "hidden_norm": "post_attention_layernorm"}
_NORMS_OF_HEADS = {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}


def is_decoder_layer(module: nn.Module) -> bool:
    """Return True for a decoder layer of transformers whose forward `DecoderLayer` computes."""
    return _is_of_transformers(module, "DecoderLayer")


def is_decoder_stack(module: nn.Module) -> bool:
    """Return True for a model of transformers that is an embedding, such decoder layers and a norm."""
    return _is_of_transformers(module, "Model")


def _is_of_transformers(module: nn.Module, kind: str) -> bool:
    cls = type(module)
    names = [f"{architecture}{kind}" for architecture in _ARCHITECTURES]
    return cls.__name__ in names and cls.__module__.startswith("transformers.models.")


def parts_of(module: nn.Module) -> list[nn.Module]:
    """Return the modules whose weights and numbers the kernel of a decoder layer reads."""
    names = ["self_attn", *_PROJECTIONS.values(), *_NORMS.values()]
    names += [name for name in _NORMS_OF_HEADS.values() if _has(module, name)]
    return [module.get_submodule(name) for name in names]


def kernel_of(module: nn.Module) -> DecoderLayer | None:
    """Return the kernel of a decoder layer; None if a part of it has no such form.

    All seven projections must be packed with float inputs, and all norms must have one eps.
    """
    projections = {part: module.get_submodule(name) for part, name in _PROJECTIONS.items()}
    attention: Any = module.get_submodule("self_attn")
    if type(module.get_submodule("mlp.act_fn")).__name__ not in _ACTIVATIONS:
        return None
    weights = {part: weight for part, layer in projections.items() if (weight := _weight(layer)) is not None}
    inputs = {layer.inputs for layer in projections.values() if isinstance(layer, KernelLinear)}
    named = _NORMS | {part: name for part, name in _NORMS_OF_HEADS.items() if _has(module, name)}
    norms: dict[str, Any] = {part: module.get_submodule(name) for part, name in named.items()}
    eps = [getattr(norm, "variance_epsilon", None) for norm in norms.values()]
    is_float32 = all(norm.weight.dtype is torch.float32 and norm.weight.is_cpu for norm in norms.values())
    if len(weights) < len(projections) or len(inputs) != 1 or eps[0] is None or len({*eps}) != 1 or not is_float32:
        return None
    of_norms = {part: norm.weight for part, norm in norms.items()}
    return DecoderLayer(weights, of_norms, attention.head_dim, eps[0], attention.scaling, inputs == {"int8"})


def _has(module: nn.Module, name: str) -> bool:
    parent, _, child = name.rpartition(".")
    return child in module.get_submodule(parent)._modules


def _weight(layer: nn.Module) -> BinaryWeight | None:
    """Return the weight of a packed linear layer with float inputs; None for other layers and dtypes."""
    if not isinstance(layer, KernelLinear) or layer.has_binary_input or layer.scale.dtype is not torch.float32:
        return None
    layer.prepack_if_changed()
    if layer.prepacked is None or not layer.prepacked.is_cpu:
        return None
    shape = layer.spec.shape
    sizes = layer.input_channels(shape), layer.output_channels(shape)
    return BinaryWeight(layer.prepacked, *sizes, layer.kernel_scale(), layer.kernel_bias())
