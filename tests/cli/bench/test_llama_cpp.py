"""llama.cpp beside a packed language model: what it measures, what it refuses, and files that are another network's."""

import copy
import io
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from rich.console import Console
from torch import nn

import proxconnect as pc
from proxconnect.cli.bench import Options, generation, measure, tables
from proxconnect.cli.bench.rivals import CannotRunError, llama_cpp
from proxconnect.cli.bench.timing import Spread
from proxconnect.cli.networks import named

FAKE = """
import json, os
from pathlib import Path

def note(*call):
    with open(os.environ["FAKE_CALLS"], "a") as file:
        print(json.dumps(call), file=file)

class Llama:
    ctx = "context"

    def __init__(self, model_path, *, n_ctx, n_batch, n_threads, n_threads_batch, verbose):
        note("load", Path(model_path).read_bytes()[:4].decode(), n_ctx, n_threads, n_threads_batch)

    def reset(self):
        note("reset")

    def eval(self, tokens):
        note("eval", len(tokens))

    def sample(self, temp):
        note("sample", temp)
        return 1

    def n_vocab(self):
        return 320

def llama_get_logits_ith(ctx, index):
    assert (ctx, index) == (Llama.ctx, -1)
    return json.loads(Path(os.environ["FAKE_LOGITS"]).read_text()) + ["memory of another"]
"""


def llama(width: int = 128) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=320, max_position_embeddings=64, initializer_range=0.1, **sizes)
    return transformers.LlamaForCausalLM(config).eval().requires_grad_(False)


def packed(activations: str | None = None, width: int = 128, **options: Any) -> Any:
    return pc.pack(pc.binarize(llama(width), "bnn++", activations).eval(), **options)


def running(model: Any, folder: Path) -> AbstractContextManager[llama_cpp.Engine]:
    return llama_cpp.running(model, generation.prompt_for(model, 9), 4, "float", 1, folder)


@pytest.fixture
def installed() -> None:
    pytest.importorskip("gguf", reason="gguf is in the extra `gguf`")
    pytest.importorskip("xllamacpp", reason="xllamacpp, llama.cpp for Python, is in the extra `test`")


@pytest.mark.usefixtures("installed")
def test_it_stands_beside_the_packed_network(tmp_path: Path) -> None:
    options = Options(rounds=2, threads=1, batches=(1,), prompt=9, tokens=4, group_size=128,
                      packing={"remainder": "int8"})  # fmt: skip
    bench = measure("net", llama(), {"input_ids": torch.randint(320, (1, 8))}, options, tmp_path, lambda _: None)
    assert "llama.cpp" not in bench["absent"]
    writers = {one["name"]: one for one in bench["generation"]["writers"]}
    assert list(writers) == ["float", "packed", "packed, inputs int8", "llama.cpp"]
    assert 0 < writers["llama.cpp"]["first_token"].median < 10
    assert writers["llama.cpp"]["rate"].median > 0.1
    engine = bench["generation"]["llama_cpp"]
    assert 0 < engine["difference"] < 0.04  # as in tests/export/test_gguf_engine.py
    assert engine["file"] == (tmp_path / "llama.gguf").stat().st_size
    assert engine["peak_memory"] is None or engine["peak_memory"] > engine["file"]
    assert (engine["package"], engine["version"][:2]) in (("xllamacpp", "20"), ("llama-cpp-python", "0."))


@pytest.mark.usefixtures("installed")
def test_the_remainder_in_8_bits_is_so_in_its_file(tmp_path: Path) -> None:
    sizes = {}
    for remainder in ("float", "int8"):
        llama_cpp._write_file(packed(remainder=remainder), tmp_path / remainder, remainder)
        sizes[remainder] = (tmp_path / remainder).stat().st_size
    values = 2 * 320 * 128  # of embedding and head
    assert sizes["float"] - sizes["int8"] == pytest.approx(values * (2 - 34 / 32), rel=0.01)


def exchanged(model: Any) -> None:
    first, second = (layer.mlp.gate_proj.bits for layer in model.model.layers)
    kept = first.clone()
    first.copy_(second), second.copy_(kept)


def doubled(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.v_proj.scale.mul_(2)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("damage", [exchanged, pytest.param(doubled, marks=pytest.mark.thorough)])
def test_a_file_of_another_network_is_no_rival(damage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_gguf = llama_cpp.to_gguf

    def wrong(model: Any, path: Path, **options: Any) -> None:
        model = copy.deepcopy(model)
        damage(model)
        to_gguf(model, path, **options)

    monkeypatch.setattr(llama_cpp, "to_gguf", wrong)
    with pytest.raises(CannotRunError, match=r"its logits differ from those of packed by \d+ %"), running(
        packed(), tmp_path
    ):  # fmt: skip
        pass


@pytest.mark.usefixtures("installed")
def test_a_file_that_it_cannot_read_is_a_line_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "to_gguf", lambda model, path, **_: path.write_bytes(b"GGUF and no more"))
    with pytest.raises(CannotRunError, match=r"its process ended: (?!raise).*[Ee]rror"), running(packed(), tmp_path):
        pass


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("options", "reason"),
    [({"width": 64}, "q_proj'.*128"), ({"activations": "poly"}, "q_proj': it has binary inputs, which GGUF cannot")],
)
def test_networks_that_gguf_does_not_hold_are_refused_in_words(options: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match=reason), running(packed(**options), tmp_path):
        pass


def test_without_a_package_it_names_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "find_spec", lambda _: None)
    with (
        pytest.raises(CannotRunError, match="not installed; run: pip install llama-cpp-python"),
        running(llama(), tmp_path),
    ):
        pass


@pytest.mark.usefixtures("installed")
def test_llama_cpp_python_comes_first_and_each_new_token_is_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of that name stands in, since the real one is built for a machine, in minutes."""
    model, calls, logits = packed(), tmp_path / "calls", tmp_path / "logits"
    metadata = tmp_path / "llama_cpp_python-0.0.7.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.0.7\n")
    (tmp_path / "llama_cpp.py").write_text(FAKE)
    logits.write_text(json.dumps(model(input_ids=generation.prompt_for(model, 9)).logits[0, -1].tolist()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_CALLS", str(calls))
    monkeypatch.setenv("FAKE_LOGITS", str(logits))
    with running(model, tmp_path) as engine:
        described = engine.described()
    assert (described["package"], described["version"]) == ("llama-cpp-python", "0.0.7")
    assert described["difference"] < 1e-6
    greedy = ["sample", 0.0]
    assert [json.loads(line) for line in calls.read_text().splitlines()] == [
        ["load", "GGUF", 13, 1, 1], ["reset"], ["eval", 9],  # the logits
        ["reset"], ["eval", 9], greedy, ["eval", 1], greedy, ["eval", 1], greedy, ["eval", 1], greedy,
    ]  # fmt: skip


def test_the_lines_below_the_table_compare_with_it() -> None:
    medians = {"float": (9, 1), "packed": (2, 30), "packed, inputs int8": (1, 60), "llama.cpp": (4, 40)}
    writers = [
        {"name": name, "first_token": Spread.of([first]), "rate": Spread.of([rate])}
        for name, (first, rate) in medians.items()
    ]
    engine = {"package": "llama-cpp-python", "version": "0.3.99", "file": 123_456_789, "peak_memory": 234_567_890}
    console = Console(width=80, record=True, file=io.StringIO())
    for line in tables.beside_llama_cpp({"writers": writers, "llama_cpp": {**engine, "difference": 0.0123}}):
        console.print(line)
    assert console.export_text().splitlines() == [
        "",
        "llama.cpp is llama-cpp-python 0.3.99: file 123.5M, peak memory 234.6M bytes.",
        "Its logits differ from those of packed by 1.2 % of their norm.",
        "packed: prompt 2.00x, then 0.75x as fast as llama.cpp.",
        "packed, inputs int8: prompt 4.00x, then 1.50x as fast as llama.cpp.",
    ]
    assert list(tables.beside_llama_cpp({"writers": writers[:-1], "llama_cpp": None})) == []


@pytest.mark.parametrize(("name", "millions"), [("small_llama", 134), ("llama_1b", 953)])
def test_named_language_models_have_as_many_weights_as_they_say(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = named(name).build()
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6) == millions
    sizes = {size for weight in model.parameters() for size in weight.shape}
    assert all(size % 128 == 0 for size in sizes)
