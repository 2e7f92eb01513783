"""A plugin of pytest that limits what torch and our kernels use, where no environment variable does."""

import pytest
import torch

import proxconnect.kernels


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("machines", "stand in for another machine")
    group.addoption("--threads", type=int, default=1, help="threads of torch and of our kernels")
    group.addoption("--without-onednn", action="store_true", help="let torch compute without oneDNN")
    group.addoption("--kernels", metavar="FOLDER", help="load kernels.so from this folder")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(config.getoption("threads"))
    if config.getoption("without_onednn"):
        torch.backends.mkldnn.set_flags(False)
    if folder := config.getoption("kernels"):
        proxconnect.kernels.__path__.insert(0, folder)
