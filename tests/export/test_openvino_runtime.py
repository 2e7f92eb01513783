"""Side effects of OpenVINO on its process: signals and telemetry."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

TWO_THAT_GO_AS_THEY_CAME = """
import gc, os, signal
import numpy as np
from openvino import Model, opset1
from proxconnect.export.openvino import compiled

def network():
    x = opset1.parameter([1, 4], np.float32)
    return compiled(Model([opset1.relu(x)], [x], "relu"))

signal.signal(signal.SIGUSR1, lambda number, frame: print("handled", flush=True))
one, other = network(), network()
del one
gc.collect()
del other
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""

CONVERSION = """
import sys, time
deeds = []
sys.addaudithook(lambda event, _: deeds.append(event) if event in ("os.fork", "socket.getaddrinfo") else None)
import torch
from proxconnect.export.openvino import openvino_package

openvino_package().convert_model(torch.nn.ReLU(), example_input=torch.zeros(1, 4))
time.sleep(0.5)  # a report would go from a thread
print(deeds)
"""


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """Run both in one process, because starting it takes longest, and return its lines."""
    code = CONVERSION + (TWO_THAT_GO_AS_THEY_CAME if sys.platform != "win32" else "")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself a signal of POSIX")
def test_a_signal_is_handled_after_two_networks_have_gone(printed: list[str]) -> None:
    assert printed[1:] == ["handled"]


def test_a_conversion_reports_nothing(printed: list[str]) -> None:
    assert printed[0] == "[]"
