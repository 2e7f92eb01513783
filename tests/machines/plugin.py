"""A plugin of pytest that limits what torch and our kernels use, where no environment variable does."""

import os

import pytest
import torch

import proxconnect.kernels


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("machines", "stand in for another machine")
    group.addoption("--threads", type=int, default=1, help="threads of torch and of our kernels")
    group.addoption("--without-onednn", action="store_true", help="let torch compute without oneDNN")
    group.addoption("--onednn", metavar="ISA", help="the best instructions of torch's oneDNN, as AVX2")
    group.addoption("--kernels", metavar="FOLDER", help="load kernels.so from this folder")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(config.getoption("threads"))
    if limit := config.getoption("onednn"):
        _limit_onednn(limit)
    if config.getoption("without_onednn"):
        torch.backends.mkldnn.set_flags(False)
    if folder := config.getoption("kernels"):
        proxconnect.kernels.__path__.insert(0, folder)


def _limit_onednn(isa: str) -> None:
    """Have torch's oneDNN read the variable, and nobody after it: OpenVINO has a oneDNN too, and crashes if limited."""
    os.environ["ONEDNN_MAX_CPU_ISA"] = isa
    torch.nn.functional.conv2d(torch.ones(16, 8, 9, 9), torch.ones(8, 8, 3, 3))  # large enough for oneDNN
    del os.environ["ONEDNN_MAX_CPU_ISA"]
