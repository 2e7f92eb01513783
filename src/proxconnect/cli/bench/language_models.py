"""Language models to measure."""

import torch
from torch import Tensor, nn

from proxconnect._support import extras


def small_llama() -> nn.Module:
    """LLaMA with 768 channels in 12 layers and 32000 tokens, 134 million weights, untrained.

    It takes `{"input_ids": int64 (N, T)}`; MissingExtraError without transformers.
    """
    transformers = extras.require("transformers", "huggingface")
    config = transformers.LlamaConfig(
        vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=2048,
    )  # fmt: skip
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def prompt(model: nn.Module) -> dict[str, Tensor]:
    """What it takes: 128 tokens by chance."""
    return {"input_ids": torch.randint(32000, (1, 128))}
