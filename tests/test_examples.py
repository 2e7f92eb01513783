"""Every file under examples/ runs from beginning to end, in an empty folder, and is short enough to be read."""

import gc
import importlib
import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from training.forks import processes

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


SHORTER = {"language_model": ("bc", "8"), "llama_cpp": ("bc", "2"), "sentence_encoder": ("bnn++", "2"),
           "pretrained_language_model": ("checkpoint", "text.txt", "2")}  # fmt: skip
"""Arguments, of which the last is the number of steps of training."""

PACKAGES = ("transformers.modeling_utils", "onnxscript.function_libs.torch_lib.ops")
"""Packages that several examples need and that take long to import."""


COVERED = ("export_openvino", "export_program", "llama_cpp", "sentence_encoder")
"""Examples that take long and do what tests of exports, of GGUF and of BERT do with smaller networks."""


def make_networks_shallow() -> None:
    """Give the networks that examples take from libraries one block, or one block for each size of pictures."""
    import torchvision
    import transformers

    from proxconnect.training.models import bireal

    def one_layer(make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: make(*arguments, **options | {"num_hidden_layers": 1})

    one_each = partial(torchvision.models.resnet.ResNet, torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    torchvision.models.resnet18 = one_each
    bireal.bireal_resnet18 = partial(bireal.BiRealNet, (1, 1, 1, 1))
    transformers.LlamaConfig = one_layer(transformers.LlamaConfig)
    transformers.BertModel.from_pretrained = one_layer(transformers.BertModel.from_pretrained)


def write_checkpoint() -> None:
    """Write what `pretrained_language_model` reads, with random weights, and be the one process of its `torchrun`."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    Path("text.txt").write_text(text := Path(__file__).read_text())
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator([text], vocab_size=300, special_tokens=["</s>"], show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=learned._tokenizer, eos_token="</s>").save_pretrained("checkpoint")
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=300, eos_token_id=0, **sizes)).save_pretrained("checkpoint")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": port}


def be(example: Path, folder: Path) -> None:
    os.chdir(folder)
    if example.stem == "pretrained_language_model":
        write_checkpoint()
    sys.argv = [str(example), *SHORTER.get(example.stem, ())]
    runpy.run_path(str(example), run_name="__main__")


def serve(asked: Connection) -> None:
    """Run each example that is asked for in a fork of this process, and answer with its exit code."""
    torch.set_num_threads(1)
    for package in PACKAGES:
        importlib.import_module(package)
    make_networks_shallow()
    gc.freeze()  # `pack` collects garbage, which else goes through all imports
    while arguments := asked.recv():
        process = multiprocessing.get_context("fork").Process(target=be, args=arguments)
        process.start()
        process.join()
        asked.send(process.exitcode)


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Path, Path], int]]:
    """Runs an example in a folder and returns its exit code."""
    here, there = multiprocessing.Pipe()
    server = processes.Process(target=serve, args=(there,))
    server.start()
    there.close()

    def ask(example: Path, folder: Path) -> int:
        here.send((example, folder))
        return int(here.recv())

    yield ask
    here.send(None)
    server.join()


@pytest.mark.parametrize(
    "example",
    [pytest.param(path, marks=[pytest.mark.thorough] * (path.stem in COVERED)) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_an_example_runs(run: Callable[[Path, Path], int], example: Path, tmp_path: Path) -> None:
    assert run(example, tmp_path) == 0


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    lines = example.read_text().splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith('"""')
