"""`proxconnect export`: a file, what runs it, and bad input."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import proxconnect as pc
from proxconnect.cli.command import main

MODULE = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 5))

net.example = torch.ones(2, 3, 8, 8)

def blind():
    return net()
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
    assert main(command(packed, form, out)) == 0
    written, answered = capsys.readouterr().out.strip().splitlines()[-2:]  # onnxscript 0.6 says before what it rewrote
    size = sum(path.stat().st_size for path in Path().glob("net.*") if path != packed)
    assert f"{out}: {size:,} bytes, {size / packed.stat().st_size:.2f} times the packed file" in written
    assert answered.startswith(f"{runtime} answers within ")
    assert float(answered.split()[-5]) < 1e-4


def command(file: Path | str, form: str, out: str, model: str = "net") -> list[str]:
    return ["export", str(file), "--model", f"exported_net:{model}", "--to", form, "-o", out]


def test_floats_are_written_for_binary_weights(packed: Path, capsys) -> None:
    layers = [nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 5)]
    model = pc.binarize(nn.Sequential(*layers)).eval()
    pc.save(pc.pack(model), packed)
    assert main(command(packed, "float", "net.float.safetensors")) == 0
    written, answered = capsys.readouterr().out.strip().splitlines()[-2:]  # onnxscript 0.6 says before what it rewrote
    size = Path("net.float.safetensors").stat().st_size
    assert written.startswith(f"net.float.safetensors: {size:,} bytes")
    assert answered.startswith("the float network answers within ")
    assert float(answered.split()[-5]) < 1e-4
    assert torch.equal(load_file("net.float.safetensors")["1.weight"], model[1].binary_weight)


def test_floats_need_no_input_and_say_that_signs_of_inputs_are_lost(packed: Path, capsys) -> None:
    assert main(command(packed, "float", "net.float.safetensors", "blind")) == 0
    captured = capsys.readouterr()
    written, warned, answered = captured.out.strip().splitlines()
    assert written.startswith("net.float.safetensors: ")
    assert warned.startswith("this model quantises activations too, which a float network does not")
    assert answered == "not run: give the shape of an input, as --input 1 3 224 224"
    assert captured.err == ""
    assert main(command(packed, "onnx", "net.onnx", "blind")) == 2
    assert "give the shape of what exported_net:blind takes" in capsys.readouterr().err


@pytest.mark.parametrize("remainder", [None, "q8_0"])
def test_a_language_model_is_written_for_llama_cpp(llama, remainder: str | None, capsys) -> None:
    import gguf

    command = ["export", "llama.safetensors", "--model", "my_module:llama", "--to", "gguf", "-o", "net.gguf"]
    options = ["--tokenizer", "folder"] if remainder is None else ["--tokenizer", "folder", "--remainder", remainder]
    assert main([*command, *options]) == 0
    written, answered = capsys.readouterr().out.strip().splitlines()[-2:]
    assert written.startswith(f"net.gguf: {Path('net.gguf').stat().st_size:,} bytes")
    assert answered == "not run: run it with llama.cpp"
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader("net.gguf").tensors}
    assert types["blk.1.ffn_down.weight"] == "Q1_0"
    assert types["output.weight"] == ("F16" if remainder is None else "Q8_0")


def test_the_packed_file_is_not_overwritten(packed: Path, capsys) -> None:
    before = packed.read_bytes()
    assert main(command(packed, "float", str(packed))) == 2
    assert "is the packed file itself" in capsys.readouterr().err
    assert packed.read_bytes() == before


def test_bad_input_is_one_line(packed: Path, capsys) -> None:
    assert main(command(packed, "openvino", "net.onnx")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    torch.save({}, "other.pt")
    assert main(command("other.pt", "openvino", "net.onnx")) == 2
    assert "cannot load other.pt" in capsys.readouterr().err
