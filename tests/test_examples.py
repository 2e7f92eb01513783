"""Every file under examples/ runs from beginning to end, in an empty folder, and is short enough to be read."""

import os
import runpy
import sys
from pathlib import Path

import pytest
import torch

from training.forks import processes

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


SHORTER = {"language_model": ("bc", "8"), "sentence_encoder": ("bnn++", "2")}
"""Arguments, of which the second is the number of steps of training."""


def be(example: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.argv = [str(example), *SHORTER.get(example.stem, ())]
    runpy.run_path(str(example), run_name="__main__")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    process = processes.Process(target=be, args=(example, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    lines = example.read_text().splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith('"""')
