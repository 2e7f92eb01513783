"""Memory of fresh processes."""

import subprocess
import sys

import pytest
import torch

from proxconnect.inspection import memory
from proxconnect.inspection.memory import own_peak

PROGRAM = """
import runpy, sys
own_peak = runpy.run_path(sys.argv[2])["own_peak"]  # without the package, which would import torch
held = bytearray(int(sys.argv[1]))
held[::1024] = b"x" * len(held[::1024])
del held
print(own_peak())
"""


def peak_after(held: int) -> int:
    command = [sys.executable, "-c", PROGRAM, str(held), str(memory.__file__)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_what_was_held_once_counts_and_what_the_parent_holds_does_not():
    if own_peak() is None:
        pytest.skip("this system does not say")
    here = torch.ones(300 * 2**20, dtype=torch.uint8)
    bare = peak_after(1)
    assert own_peak() > here.nbytes
    assert peak_after(200 * 2**20) - bare > 190 * 2**20
    assert bare < own_peak() - here.nbytes // 2
