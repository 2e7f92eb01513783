"""Run by `test_machines.py` in a row that limits all that rows limit."""

import torch

from proxconnect.kernels import instruction_sets


def test_limits() -> None:
    assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    assert torch.get_num_threads() == 2
    assert not torch._C._get_mkldnn_enabled()
    assert instruction_sets() in ((), ("portable",))
