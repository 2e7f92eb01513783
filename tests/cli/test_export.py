"""`proxconnect export`: a file, what runs it, and bad input."""

from pathlib import Path

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect.cli import main

MODULE = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 5))

net.example = torch.ones(2, 3, 8, 8)
"""


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed file, in the working directory beside the module that builds its network."""
    monkeypatch.chdir(tmp_path)
    Path("exported_net.py").write_text(MODULE)
    layers = [nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 5)]
    pc.save(pc.pack(pc.binarize(nn.Sequential(*layers), activations="bnn").eval()), "net.safetensors")
    return Path("net.safetensors")


@pytest.mark.parametrize(
    ("form", "out", "runtime"), [("onnx", "net.onnx", "ONNX Runtime"), ("openvino", "net.xml", "OpenVINO")]
)
def test_a_file_is_written_and_answered(packed: Path, form: str, out: str, runtime: str, capsys) -> None:
    assert main(["export", str(packed), "--model", "exported_net:net", "--to", form, "-o", out]) == 0
    written, answered = capsys.readouterr().out.strip().splitlines()
    size = sum(path.stat().st_size for path in Path().glob("net.*") if path != packed)
    assert f"{out}: {size:,} bytes, {size / packed.stat().st_size:.2f} times the packed file" in written
    assert answered.startswith(f"{runtime} answers within ")
    assert float(answered.split()[-5]) < 1e-4


def test_bad_input_is_one_line(packed: Path, capsys) -> None:
    command = ["export", str(packed), "--model", "exported_net:net", "--to", "openvino", "-o", "net.onnx"]
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    torch.save({}, "other.pt")
    assert main(["export", "other.pt", *command[2:]]) == 2
    assert "cannot load other.pt" in capsys.readouterr().err
