"""A plugin of pytest that limits what torch uses, where no environment variable does."""

import os

import pytest
import torch

ONEDNN = "ONEDNN_MAX_CPU_ISA"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("machines", "stand in for another machine")
    group.addoption("--threads", type=int, default=1, help="threads of torch and of our kernels")
    group.addoption("--without-onednn", action="store_true", help="let torch compute without oneDNN")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(config.getoption("threads"))
    if ONEDNN in os.environ:  # which torch's oneDNN reads when it is first used
        torch.nn.functional.conv2d(torch.ones(16, 8, 9, 9), torch.ones(8, 8, 3, 3))  # large enough for oneDNN
    if config.getoption("without_onednn"):
        torch.backends.mkldnn.set_flags(False)


@pytest.fixture(autouse=True)
def openvino_is_not_limited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO brings a oneDNN too, and crashes if that is limited."""
    if "openvino" in request.node.nodeid:
        monkeypatch.delenv(ONEDNN, raising=False)
