"""The architectures that can be written as GGUF: their names there, their tensors and their hyperparameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.export.portable import ExportError

_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_BLOCK = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_LINEAR = frozenset(name for name in _BLOCK.values() if "norm" not in name)


@dataclass(frozen=True)
class Architecture:
    """An architecture of llama.cpp."""

    name: str
    """Its name in a file."""
    biases: frozenset[str]
    """The layers of a block that may have a bias."""
    has_head_norms: bool = False
    """True if queries and keys of each head are normalized."""
    is_llama: bool = False
    """True if it rotates neighbouring entries of a query, not halves, and may scale each frequency by a tensor."""

    def modules(self, blocks: int) -> Iterator[tuple[str, str]]:
        """Yield the name in transformers and the name in GGUF of every layer with weights; `blocks` is their count."""
        yield from _ENDS.items()
        block = _BLOCK | _HEAD_NORMS if self.has_head_norms else _BLOCK
        for index in range(blocks):
            yield from ((f"model.layers.{index}.{name}", f"blk.{index}.{other}") for name, other in block.items())

    def may_have_bias(self, name: str) -> bool:
        """Return True if llama.cpp reads a bias for the layer of this name in GGUF."""
        return name.rpartition(".")[2] in self.biases

    def row_order(self, name: str, config: Any) -> Tensor | None:
        """Return, for the layer of this name in GGUF, the row of transformers that each row there holds.

        None if the order is the same.
        """
        kind = name.rpartition(".")[2]
        if not self.is_llama or kind not in ("attn_q", "attn_k"):
            return None
        heads = config.num_attention_heads if kind == "attn_q" else config.num_key_value_heads
        return neighbours_of_halves(heads, head_size(config))


_LLAMA = Architecture("llama", biases=_LINEAR, is_llama=True)
ARCHITECTURES = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": Architecture("qwen2", biases=frozenset({"attn_q", "attn_k", "attn_v"})),
    "Qwen3ForCausalLM": Architecture("qwen3", biases=frozenset(), has_head_norms=True),
}
"""The architectures by the name of the class in transformers."""


def architecture_of(model: nn.Module) -> Architecture:
    """Return the architecture of a model of transformers; ExportError if GGUF has none here."""
    for kind in type(model).__mro__:
        if kind.__name__ in ARCHITECTURES and kind.__module__.startswith("transformers."):
            return ARCHITECTURES[kind.__name__]
    raise ExportError(f"{type(model).__name__} is no architecture that is written as GGUF: those are "
                      f"{', '.join(ARCHITECTURES)} of transformers. to_onnx and to_floats take others")  # fmt: skip


def head_size(config: Any) -> int:
    """Return the size of a query or key of one head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def neighbours_of_halves(heads: int, size: int) -> Tensor:
    """Return the rows, (heads · size,), that put each entry of the second half of a head after its first-half partner.

    transformers rotates entry i of a head with entry i + size / 2; llama.cpp rotates entries 2i and 2i + 1.
    """
    return torch.arange(heads * size).view(heads, 2, size // 2).transpose(1, 2).flatten()


def require_supported(config: Any, architecture: Architecture) -> None:
    """Raise ExportError, which names the setting, if llama.cpp would compute another function than `config` says."""
    activation, window = config.hidden_act, getattr(config, "sliding_window", None)
    if activation not in ("silu", "swish"):
        raise ExportError(f"config.hidden_act is {activation!r}, and llama.cpp computes 'silu' in {architecture.name}: "
                          "export with to_onnx instead")  # fmt: skip
    if window is not None and window < config.max_position_embeddings:
        raise ExportError(f"config.sliding_window is {window}, and {architecture.name} of llama.cpp has no window: up "
                          f"to {window} tokens both are the same, so set config.max_position_embeddings to {window}, "
                          "or config.sliding_window to None")  # fmt: skip
    rope = config.rope_parameters
    known = ("default", "linear", "llama3") if architecture.is_llama else ("default", "linear")
    if rope["rope_type"] not in known or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ExportError(f"config.rope_parameters are {rope}, and {architecture.name} is written with the types "
                          f"{', '.join(known)} over whole heads: export with to_onnx instead")  # fmt: skip


def hyperparameters(config: Any, architecture: Architecture) -> dict[str, int | float | str]:
    """Return the sizes and constants of a supported `config` by their names in a file."""
    rope = config.rope_parameters
    values: dict[str, int | float | str] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_size(config),
        "attention.value_length": head_size(config),
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": head_size(config),
        "rope.freq_base": float(rope["rope_theta"]),
    }
    if rope["rope_type"] == "linear":
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    return {f"{architecture.name}.{key}": value for key, value in values.items()}


def frequency_divisors(model: Any) -> Tensor | None:
    """Return what a model of type "llama3" divides its rotary frequencies by, float32 (head size / 2,), or None."""
    rope = model.config.rope_parameters
    if rope["rope_type"] != "llama3":
        return None
    size = head_size(model.config)
    plain = rope["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    divisors: Tensor = (plain / model.model.rotary_emb.inv_freq.double().cpu()).float()
    return divisors
