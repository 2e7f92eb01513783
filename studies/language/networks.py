"""LLaMAs of several widths, float or binary, with one matrix as embedding and head."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from studies.language.text import WORDS
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import proxconnect as pc

LAYERS, HEAD_WIDTH = 5, 32
INNER = {64: 192, 128: 384, 256: 640, 512: 1280}
"""The width of the gated layers for each width of the network, about 8/3 of it."""

Binary = Mapping[str, Any] | None
"""Arguments of `pc.binarize`, or None for a float network."""


def llama(width: int) -> nn.Module:
    """Return a float network with values that torch's seed decides."""
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=width, intermediate_size=INNER[width], num_hidden_layers=LAYERS,
        num_attention_heads=width // HEAD_WIDTH, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0,
        use_cache=False,
    )  # fmt: skip
    network: nn.Module = LlamaForCausalLM(config)
    return network


def build(width: int, binary: Binary) -> nn.Module:
    """Return a network in `train()`; without "keep" and "embeddings" in `binary`, embedding and head stay float."""
    network = llama(width)
    if binary is not None:
        pc.binarize(network, **binary)
    return network.train()


def trained(width: int, checkpoint: Path) -> nn.Module:
    """Return the float network of a row's checkpoint."""
    network = build(width, None)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    return network


def weights(network: nn.Module) -> int:
    """Return the number of weights in the matrices of the network, the embedding among them."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)
