"""Grids, ledgers and configurations for readers to fail on."""

import json
from contextlib import suppress
from random import Random
from typing import Any

import yaml

from fuzzing.changes import LARGEST, bytes_changed, lines_changed, tree_changed, tree_text
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import StudyRow, address

GRID = {
    "run": "a:b", "base": {"trainer": {"max_epochs": 3}}, "tables": {"lines": "pair", "columns": ["mode", "start"]},
    "axes": {
        "seed": [0, 1], "pair": {"fp": {"model.weights": "fp"}, "bnn+": {"model.weights": "bnn+"}},
        "mode": {"float": {}, "BW": {"tuned_as": {"mode": "float"}, "model": {"mode": "BW"}}},
        "start": {"E2E": {}, "FT": {"after": {"pair": "fp", "start": "E2E"}, "checkpoint": "start", "rate": 2}},
    },
    "blocks": [{"pair": ["bnn+"], "exclude": [{"start": "FT", "seed": [1]}], "set": {"a": 1e-3}}, {"pair": "fp"}],
    "compare": {"pair": [["bnn+", "fp"]]},
    "ranks": {"pair": [["bnn+", "fp"]]},
}  # fmt: skip
SEARCH = {
    "run": "a:b", "base": {"model": {"binary": {"weights": "bnn++"}, "sharpening": {"weights": {"end": 3.0}}}},
    "settings": {"BW": {}, "BWA": {"model.binary.activations": "bnn+"}},
    "common": {"parameters": {"rate": {"from": 0.1, "to": 1, "log": True}}, "set": {"lr": "$rate"}},
    "spaces": {
        "gaps": {"parameters": {"T": ["clip", "swish(0)"]}, "set": {"model.binary.weights": "$T of gap(0.1)"},
                 "first": [{"T": "clip", "rate": 0.5}]},
        "bnn+": {"set": {"model.binary.weights": "bnn+"}},
    },
    "rounds": [{"candidates": 4}, {"candidates": 2, "seeds": [1, 2], "set": {"epochs": 3}}],
    "confirm": {"seeds": [5]}, "batch": 2, "seed": 1,
}  # fmt: skip
WORDS: list[Any] = [
    "seed", "pair", "mode", "start", "fp", "E2E", "exclude", "set", "after", "checkpoint", "tuned_as", "class_path",
    "a.b.c", ".", "." * 2000, "grid", "/dev/null", ["pair", "pair"], {"pair": None},
    {"pair": "fp", "mode": "float", "start": "E2E"},
]  # fmt: skip
TOKENS = [
    "&a", "*a", "&a [*a, *a]", "<<: *a", "!!bool x", "!!int x", "!!int ''", "!!float x", "!!float ''", 
    "!!timestamp x",
    "!!map [a]", "!!map a", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!binary x", "!!null x", "!!str {}",
    "!!seq a", "!!python/object/apply:os.system [ls]", "!!python/name:os.system", "!a", "!<x>", "? ", "? [a]\n: b",
    "- ",
    "{", "}", "[", "]", "[" * 1100, "{a: " * 1100, "2024-13-45", "2024-01-01", "2024-01-01T99:99:99Z", "0x", "0b1",
    "0o7",
    "1:99", "1:1:1.5", "1" + ":59" * 900, "1" + ":59" * 400 + ".5", "1_000", "1e400", ".inf", ".nan", "-.inf",
    "9" * 5000,
    "\t", "%YAML 1.1\n---", "%TAG ! x\n---", "---", "...", "|", ">", "'", '"', '"\\ud800"', '"\\U00110000"', 
    "\0", "\ufeff",
    "=", "y", "on", "~", "#", "@", "`", "\u2028", "é",
]  # fmt: skip
"""What YAML has a meaning for, or nearly."""

LONGEST_TEXT = 1 << 13
"""Bytes of YAML beyond which none grows, since its reader is slow."""


def yaml_seeds() -> list[bytes]:
    """A grid in both of YAML's forms, with anchors in one."""
    return [yaml.safe_dump(GRID).encode(), json.dumps(GRID).encode(), b"base: &b {a: 1}\naxes: {seed: [1]}\nmore: *b\n"]


def mutate_yaml(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Another text: as lines, as a tree or as bytes."""
    text = data.decode("utf-8", "replace")
    chance = random.random()
    if chance < 0.1:
        return bytes_changed(data, random)
    if chance < 0.5:
        return lines_changed(text, random, TOKENS).encode("utf-8", "surrogatepass")[:LONGEST_TEXT]
    return tree_text(tree_changed(GRID, random, WORDS)).encode("utf-8", "surrogatepass")[:LONGEST_TEXT]


def search_seeds() -> list[bytes]:
    """A search file in both of YAML's forms."""
    return [yaml.safe_dump(SEARCH).encode(), json.dumps(SEARCH).encode()]


def mutate_search(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Another text: as lines or as a tree."""
    if random.random() < 0.3:
        return lines_changed(data.decode("utf-8", "replace"), random, TOKENS).encode("utf-8", "surrogatepass")
    words = [*WORDS, "parameters", "first", "$rate", "$T of $T", "from", "clip of gap(1", "$nothing"]
    return tree_text(tree_changed(SEARCH, random, words)).encode("utf-8", "surrogatepass")[:LONGEST_TEXT]


def ledger_seeds() -> list[bytes]:
    """Two lines of a ledger."""
    return [b"".join(_entry(seed) for seed in (0, 1))]


def _entry(seed: int) -> bytes:
    row = StudyRow({"seed": str(seed)}, {"seed_everything": seed, "model": {"weights": "bnn++"}}, "a:b")
    measured = {"accuracy": {"hard": 0.5, "soft": None}, "curve": [{"epoch": 1, "loss": 0.5}], "seconds": 1.0}
    entry = Entry.of(row, measured, {"results": "0.1.0+1"}, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z")
    return entry.line().encode() + b"\n"


def mutate_ledger(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """A line with other content, mostly under the key that fits it."""
    if random.random() < 0.2:
        return bytes_changed(data, random)
    tree = tree_changed(json.loads(_entry(random.randrange(3))), random, [0.5, 2, "a:b", {"hard": 1}])
    if random.random() < 0.7:
        with suppress(KeyError, TypeError, ValueError):
            tree["key"] = address(tree["configuration"], tree["run"], tree["after"], tree["versions"]["results"])
    line = tree_text(tree).encode("utf-8", "surrogatepass")
    return random.choice((line + b"\n", data + line, line + b"\n" + data))[:LARGEST]


CONFIGURATIONS: list[dict[str, Any]] = [
    {"quant_method": "proxconnect", "weights": "bnn++", "activations": {"first": "poly", "*": None}, "scale": "channel",
     "keep": "edges", "padding_value": 0, "accumulator": {"bits": 8, "overflow": "wrap", "slope": 2.0,
     "derivative": "exact"}, "layers": None},
    {"quant_method": "proxconnect", "weights": "bnn", "activations": "poly", "scale": "tensor", "keep": ["last"],
     "padding_value": 1, "accumulator": None, "layers": {"first": ["bnn", "poly"], "last": ["bc", None]},
     "thresholds": ["first"]},
]  # fmt: skip


def configuration_seeds() -> list[bytes]:
    """What a config.json has under `quantization_config`, of a float and of a binary checkpoint."""
    return [json.dumps(content).encode() for content in CONFIGURATIONS]


def mutate_configuration(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Another configuration."""
    vocabulary: list[Any] = [
        "fp",
        "bc",
        "bnn+",
        "edges",
        "poly",
        "tensor",
        None,
        ["first"],
        {"*": "bc"},
        "[",
        "***",
        "word",
    ]
    return tree_text(tree_changed(random.choice(CONFIGURATIONS), random, vocabulary)).encode("utf-8", "surrogatepass")
