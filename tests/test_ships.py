"""What was trained is what ships: train, pack, save, load in a fresh process, and get the same answers."""

import gc
import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

import proxconnect as pc
from networks import NETWORKS
from proxconnect._support.example import arguments
from proxconnect.deploy.fusion import prove
from proxconnect.training.models.bireal import bireal_resnet18

MODES: dict[str, dict[str, Any]] = {
    "BW": {},
    "BWA": {"activations": "poly"},
    "BWAA wrap": {"activations": "poly", "accumulator": pc.Accumulator(8, "wrap")},
    "BWAA saturate": {"activations": "poly", "accumulator": pc.Accumulator(8, "saturate")},
}


OVERFLOWS = "BWAA wrap", "BWAA saturate"
"""Modes of which each network ships in one, in turn: what becomes of a sum is the same in every network."""


def images(size: int) -> Callable[[], Tensor]:
    """In the memory format of fused graphs, in which torch rounds as they do."""
    return lambda: torch.randn(2, 3, size, size).contiguous(memory_format=torch.channels_last)


def with_two_signs(model: nn.Module) -> nn.Module:
    """PReLU for each ReLU and Hardtanh for each ReLU6, which leave one sign only."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(parent, name, nn.PReLU() if isinstance(child, nn.ReLU) else nn.Hardtanh())
    return model


def of(name: str) -> tuple[Callable[[], nn.Module], Callable[[], Any]]:
    return NETWORKS[name].build, NETWORKS[name].example


SHIPPED: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "ResNet of 8 convolutions": (lambda: with_two_signs(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)), images(40)),
    "Bi-Real ResNet-18": (lambda: bireal_resnet18(classes=5, width=16), images(40)),
    "MobileNet": (lambda: with_two_signs(torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.25)), images(64)),
    **{name: of(name) for name in ("DeiT", "ViT", "Swin", "BERT", "LLaMA")},
}

RUNS = [
    (name, mode)
    for number, name in enumerate(SHIPPED)
    for mode in MODES
    if mode not in OVERFLOWS or mode == OVERFLOWS[number % 2]
]

FEW = [(name, list(MODES)[number % len(MODES)]) for number, name in enumerate(SHIPPED)]
"""Each network in one mode, and each mode in two networks: what runs without `--full`."""


@torch.no_grad()
def answer(model: nn.Module, example: Any) -> Tensor:
    args, kwargs = arguments(model, example)
    output = model(*args, **kwargs)
    return getattr(output, "logits", output)


def trained(name: str, mode: str, example: Any) -> nn.Module:
    """After one step of all parameters, in `eval()` and frozen."""
    model = SHIPPED[name][0]()
    pc.binarize(model.train(), weights="bnn++", example=example, **MODES[mode])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    args, kwargs = arguments(model, example)
    output = model(*args, **kwargs)
    output = getattr(output, "logits", output)
    (output * torch.randn_like(output)).sum().backward()
    optimizer.step()
    return model.eval().requires_grad_(False)


forking = multiprocessing.get_context("fork")


def answer_from_files(root: Path, runs: list[tuple[str, str]], has_saved: Event) -> None:
    """In a process that was forked before there was a model: load each file, and write what it answers."""
    gc.freeze()  # `load` collects garbage each time, which else goes through all imports
    torch.set_num_threads(1)  # other threads do not survive a fork
    has_saved.wait()
    for name, mode in runs:
        example = torch.load(root / name / "example.pt", weights_only=True)
        model = pc.load(root / name / f"{mode}.safetensors", SHIPPED[name][0]())
        torch.save(answer(model, example), root / name / f"{mode}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """Every network and mode that is asked for, saved, and the answers of a process that loaded them."""
    root = tmp_path_factory.mktemp("shipped")
    runs = RUNS if pytestconfig.getoption("full") else FEW
    has_saved = forking.Event()
    fresh = forking.Process(target=answer_from_files, args=(root, runs, has_saved), daemon=True)
    fresh.start()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, (_, example_of) in SHIPPED.items():
            (root / name).mkdir()
            example = example_of()
            torch.save(example, root / name / "example.pt")
            for mode in (mode for shipped, mode in runs if shipped == name):
                model = trained(name, mode, example)
                packed, path = pc.pack(model), root / name / f"{mode}.safetensors"
                pc.save(packed, path)
                loaded = pc.load(path, SHIPPED[name][0]())
                prove(model, loaded, example)
                answers = answer(model, example), answer(packed, example), answer(loaded, example)
                torch.save(answers, root / name / f"{mode}.expected.pt")
    has_saved.set()
    fresh.join()
    assert fresh.exitcode == 0
    return root


@pytest.mark.parametrize(
    ("name", "mode"),
    [pytest.param(*run, marks=[pytest.mark.thorough] * (run not in FEW)) for run in RUNS],
)
def test_a_fresh_process_answers_as_the_hard_model(folder: Path, name: str, mode: str) -> None:
    """And as this one, to the bit; layers were proved, since a sign behind a float layer may turn by rounding."""
    hard, packed, loaded = torch.load(folder / name / f"{mode}.expected.pt", weights_only=True)
    assert torch.equal(torch.load(folder / name / f"{mode}.pt", weights_only=True), loaded)
    if mode == "BW":
        torch.testing.assert_close(packed, hard, rtol=1e-4, atol=1e-5)
