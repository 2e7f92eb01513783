"""MiniLM with a head for two classes, float or binary, from the pretrained encoder or from a row's checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from studies.sst2.sentences import encoder_folder
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

import proxconnect as pc

HEAD = ("classifier", "bert.pooler.dense")
"""The linear layers that always stay float."""

Binary = Mapping[str, Any] | None
"""Arguments of `pc.binarize`, with "thresholds" for `pc.add_thresholds`, or None for a float network."""


def pretrained() -> nn.Module:
    """Return the float network; its classifier is new, with values that torch's seed decides."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    network: nn.Module = AutoModelForSequenceClassification.from_pretrained(encoder_folder(), num_labels=2)
    return network


def build(binary: Binary, checkpoint: Path | None = None) -> nn.Module:
    """Return a network in `train()` with the values of a row's `checkpoint`, or those of the pretrained encoder.

    The checkpoint may be of a float network, or of binary weights for a network that has binary inputs too. A binary
    network has no dropout and fixed embeddings, because it learns the answers of a teacher that has neither.
    """
    network = pretrained()
    if binary is not None:
        options = dict(binary)
        has_thresholds, kept = options.pop("thresholds", False), options.pop("keep", ())
        pc.binarize(network, keep=[*HEAD, *kept], **options)
        if has_thresholds:
            pc.add_thresholds(network)
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(module, nn.Embedding):
                module.requires_grad_(False)
    if checkpoint is not None:
        network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    return network.train()


def trained(checkpoint: Path) -> nn.Module:
    """Return the network of a row's checkpoint in `eval()`, as the row left it."""
    binary = torch.load(checkpoint, weights_only=True)["binary"]
    return build(binary, checkpoint).eval().requires_grad_(False)


def classifier() -> nn.Module:
    """Return the float network for `proxconnect bench`; its example is one sentence of 25 tokens, without padding."""
    return pretrained()


classifier.example = torch.arange(1000, 1025)[None]  # type: ignore[attr-defined]  # `bench` looks for it here
