"""The text of the study: it is gathered from three sources, split into tokens and read in windows.

Run: python -m studies.language.text [FOLDER], which writes tokenizer.json, train.npy and held_out.npy. It needs
Debian's packages python3-doc and wordnet-base, and train.tsv of SST-2 in runs/data/sst2.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor

from proxconnect._support.atomic import replacing

DOCUMENTATION, WORDNET = Path("/usr/share/doc"), Path("/usr/share/wordnet")
SENTENCES, FOLDER = Path("runs/data/sst2"), Path("runs/data/language")
WORDS = 2048
"""The number of different tokens."""

END = "</s>"
"""The token after each document."""

HELD_OUT = 20
"""One document of this many is held out."""


def manual() -> list[str]:
    """Return the pages of Python's documentation, as they were written in reStructuredText."""
    newest = sorted(DOCUMENTATION.glob("python3.*-doc/html/_sources"))[-1:]
    pages = [page for folder in newest for page in sorted(folder.rglob("*.rst.txt"))]
    return [page.read_text(encoding="utf-8") for page in pages]


def definitions() -> list[str]:
    """Return the words of each entry of WordNet with their definition and examples, a line each."""
    found = []
    for file in sorted(WORDNET.glob("data.*")):
        for line in file.read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):  # the licence
                entry, gloss = line.split("|", 1)
                fields = entry.split()
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                found.append(f"{', '.join(words).replace('_', ' ')}: {gloss.strip()}")
    return found


def sentences() -> list[str]:
    """Return SST-2's sentences to train on."""
    lines = [line for file in SENTENCES.glob("train.tsv") for line in file.read_text(encoding="utf-8").splitlines()]
    return [line.rpartition("\t")[0] for line in lines]


SOURCES = {"Debian's package python3-doc": manual, "Debian's package wordnet-base": definitions,
           f"{SENTENCES}/train.tsv": sentences}  # fmt: skip


def split() -> dict[str, list[str]]:
    """Return the documents to "train" on and those "held_out", in an order of chance; SystemExit if a source lacks."""
    parts: dict[str, list[str]] = {"train": [], "held_out": []}
    for name, read in SOURCES.items():
        documents = read()
        if not documents:
            raise SystemExit(f"there is no text of {name}: install it first")
        random.Random(0).shuffle(documents)
        number = len(documents) // HELD_OUT
        parts["train"] += documents[number:]
        parts["held_out"] += documents[:number]
    for documents in parts.values():
        random.Random(0).shuffle(documents)
    return parts


def write(folder: Path) -> None:
    """Train a tokenizer on the text to train on, and write it and the tokens of all text into `folder`."""
    parts = split()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(parts["train"], vocab_size=WORDS, special_tokens=[END], show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, documents in parts.items():
        numbers = _numbers(tokenizer, documents)
        print(f"{name}: {len(documents):,} documents, {len(numbers):,} tokens, {sum(map(len, documents)):,} characters")
        with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            numpy.save(file, numbers)
    with replacing(folder / "tokenizer.json") as temporary:
        tokenizer.save(str(temporary))


def _numbers(tokenizer: ByteLevelBPETokenizer, documents: Sequence[str]) -> "numpy.typing.NDArray[numpy.uint16]":
    end = tokenizer.token_to_id(END)
    encoded = (encoding.ids for encoding in tokenizer.encode_batch(list(documents)))
    return numpy.fromiter((number for ids in encoded for number in (*ids, end)), numpy.uint16)


def windows(folder: Path, name: str, length: int) -> Tensor:
    """Return the tokens of a file that `write` made, int64 (N, length), without the last few that fill no window."""
    try:
        numbers = numpy.load(folder / f"{name}.npy", allow_pickle=False)
    except FileNotFoundError:
        raise SystemExit(f"{folder} holds no text: run python -m studies.language.text {folder}") from None
    return torch.from_numpy(numbers.astype(numpy.int64)).unfold(0, length, length)


def batches(text: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of `text` without end, int64 (size, length), each window once in an order of chance, then again."""
    chance = torch.Generator().manual_seed(seed)
    while True:
        for numbers in torch.randperm(len(text), generator=chance)[: len(text) // size * size].view(-1, size):
            yield text[numbers]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    write(parser.parse_args().folder)
