"""Packed networks in threads, forks and workers of loaders: every answer is, to the bit, that of one thread alone."""

import os
import signal
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import proxconnect as pc
from proxconnect import kernels
from proxconnect.kernels import library
from proxconnect.kernels.library import NUMBERS

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

KINDS = ["network", "rows"]


@pytest.fixture(autouse=True)
def one_thread_afterwards() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


def network() -> nn.Module:
    """Convolutions in one group, in several and depthwise, with what a graph fuses behind them, and linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64), nn.PReLU(64), nn.Conv2d(64, 96, 3, stride=2, groups=2), nn.BatchNorm2d(96), nn.Hardtanh(),
        nn.Conv2d(96, 96, 3, groups=96), nn.BatchNorm2d(96), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(384, 300), nn.BatchNorm1d(300), nn.Hardtanh(), nn.Linear(300, 70),
    )  # fmt: skip


def rows() -> nn.Module:
    """Linear layers, what follows them rounded alike by torch and by kernels."""
    return nn.Sequential(
        nn.Linear(64, 256), nn.Hardtanh(), nn.Linear(256, 64, bias=False), nn.PReLU(), nn.Linear(64, 300),
        nn.Hardtanh(), nn.Linear(300, 64),
    )  # fmt: skip


def transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, activation="gelu")


def binary(model: nn.Module) -> nn.Module:
    """With binary weights and inputs in all layers: torch rounds float ones by the number of threads."""
    return pc.binarize(model, weights="bnn++", activations="poly", keep=None).eval().requires_grad_(False)


def packed(kind: str) -> nn.Module:
    return pc.pack(binary(network() if kind == "network" else rows()))


def inputs(kind: str, count: int) -> list[Tensor]:
    return [torch.randn(1 + i % 3, 3, 24, 24) if kind == "network" else torch.randn(1 + i % 3, 40, 64)
            for i in range(count)]  # fmt: skip


def answers(model: nn.Module, images: list[Tensor]) -> list[Tensor]:
    with torch.inference_mode():
        return [model(image) for image in images]


def are_equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kind", KINDS)
def test_threads_of_python_while_the_number_of_threads_changes(kind: str) -> None:
    model, images = packed(kind), inputs(kind, 8)
    expected = answers(model, images)

    def call(i: int) -> bool:
        torch.set_num_threads(1 + i % 3)
        return are_equal(answers(model, images), expected)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(call, range(18)))


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_number_of_threads_changes_no_sum_of_signs(threads: int) -> None:
    """Of layers of signs in graphs; what torch computes beside them is not ours to promise."""
    model, images = pc.pack(binary(network()[2:])), [torch.randn(2, 64, 24, 24)]
    assert model.packing.fusion.regions
    expected = answers(model, images)
    torch.set_num_threads(threads)
    assert are_equal(answers(model, images), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_give_equal_bits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = binary(network()[2:] if kind == "network" else transformer())  # its floats are torch's in one thread
    images = [torch.randn(2, 64, 24, 24)] if kind == "network" else inputs(kind, 2)
    found = []
    for number, name in enumerate(kernels.instruction_sets()):
        known = kernels.instruction_sets()[: number + 1]
        monkeypatch.setattr(library, "instruction_sets", lambda known=known: known)
        assert library.loaded(None)[1] == NUMBERS[name]
        found.append(answers(pc.pack(model), images))
    assert all(are_equal(one, found[0]) for one in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_and_its_parent_compute_at_once(kind: str, threads: int) -> None:
    """Threads of the kernels work before, and after in the child, where torch's own may not be used: it takes one."""
    model, images = packed(kind), inputs(kind, 4)
    torch.set_num_threads(threads)
    expected = answers(model, images)
    children = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads at a fork, which are what is tested
            child = os.fork()
        if child == 0:
            signal.alarm(60)
            torch.set_num_threads(1)
            os._exit(0 if are_equal(answers(model, images), expected) else 1)
        children.append(child)
    assert are_equal(answers(model, images), expected)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


class Answers(Dataset[Any]):
    """What a packed network makes of images, in whichever process asks."""

    def __init__(self, model: nn.Module, images: list[Tensor]) -> None:
        self.model, self.images = model, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Tensor:
        return answers(self.model, [self.images[number]])[0].clone()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="spawned workers would import torch anew, which takes long")
@pytest.mark.parametrize("kind", KINDS)
def test_workers_of_a_loader_answer_alike(kind: str) -> None:
    model, images = packed(kind), inputs(kind, 6)
    torch.set_num_threads(2)
    expected = answers(model, images)
    loader = DataLoader(Answers(model, images), batch_size=None, num_workers=2, multiprocessing_context="fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads at a fork, which are what is tested
        found = list(loader)
    assert are_equal(found, expected)
