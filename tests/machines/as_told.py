"""Run by `test_machines.py` in a row that limits all that rows limit."""

import re

import pytest
import torch

from proxconnect.kernels import instruction_sets


def test_limits(capfd: pytest.CaptureFixture[str]) -> None:
    assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    assert torch.get_num_threads() == 2
    assert not torch._C._get_mkldnn_enabled()
    with torch.backends.mkldnn.flags(True), torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        torch.nn.functional.conv2d(torch.ones(16, 8, 9, 9), torch.ones(8, 8, 3, 3))
    assert re.search(r"convolution,\w+:avx2,", capfd.readouterr().out)
    assert instruction_sets() in ((), ("portable",))
