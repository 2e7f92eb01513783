"""Two thousand inferences from eight threads, five thousand with `--full`: equal answers, flat memory."""

import gc
import threading
from pathlib import Path

import pytest
import torch
from nets import binary, image, plain, residual
from torch import nn

import proxconnect as pc

THREADS, ROUNDS, ROUNDS_IN_FULL = 8, 250, 625
SLACK = 4 << 20
"""Bytes by which a process may grow, of which 2,000 outputs of any layer would take many times as much."""

pytestmark = [
    pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built"),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says what a process holds"),
]


def resident() -> int:
    """The bytes of memory that this process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def soak(model: nn.Module, rounds: int) -> list[int]:
    """Inputs of which an answer was wrong, each thread with its own."""
    inputs = [image() for _ in range(THREADS)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    faults: list[int] = []

    def work(index: int) -> None:
        with torch.inference_mode():
            for _ in range(rounds):
                if not torch.equal(model(inputs[index]), expected[index]):
                    faults.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


@pytest.mark.parametrize("options", [{}, {"remainder": "int8", "vectors": "float16"}], ids=str)
def test_answers_are_equal_and_memory_is_flat(options, pytestconfig):
    model = pc.pack(binary(nn.Sequential(*residual(64)[:4], *plain(64)[2:])), **options)
    assert model.packing.fusion.regions
    assert not soak(model, 50)
    before = resident()
    assert not soak(model, ROUNDS_IN_FULL if pytestconfig.getoption("full") else ROUNDS)
    assert resident() - before < SLACK
