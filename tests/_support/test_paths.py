"""What is written replaces files, and nothing else."""

import io
import os
import stat
import sys

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect import export, theory
from proxconnect.cli.command import main
from proxconnect.inspection import plots

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, devices and /dev are Linux's")


@pytest.fixture(scope="module")
def packed() -> nn.Module:
    torch.manual_seed(0)
    return pc.pack(pc.binarize(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)), "bnn"))


WRITERS = {
    "save": pc.save,
    "to_floats": export.to_floats,
    "to_onnx": lambda packed, path: export.to_onnx(packed, torch.ones(1, 4), path),
    "to_qonnx": lambda packed, path: export.to_qonnx(packed, torch.ones(1, 4), path),
    "to_openvino": lambda packed, path: export.to_openvino(packed, torch.ones(1, 4), path),
    "plots.save": lambda packed, path: plots.save(theory.plot_verdict(theory.decompose("bc")), path),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("kind", ["pipe", "link to a device", "stdout", "folder", "new folder", "stream", "nothing"])
def test_only_files_are_replaced(packed, write, kind, tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    path, error, words = {
        "pipe": (pipe, OSError, "a device: give the name of a file"),
        "link to a device": (link, OSError, "a device: give the name of a file"),
        "stdout": ("/dev/stdout", OSError, "a device: give the name of a file"),
        "folder": (tmp_path, IsADirectoryError, "give the name of a file in it"),
        "new folder": (f"{tmp_path}/new/", IsADirectoryError, "give the name of a file in it"),
        "stream": (io.BytesIO(), TypeError, r"path takes the name of a file, as '\w+\.\w+'; got BytesIO"),
        "nothing": (None, TypeError, "got NoneType"),
    }[kind]
    with pytest.raises(error, match=words):
        write(packed, path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_char_device()
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "pipe", "new/", "."])
@pytest.mark.parametrize("command", ["pack nowhere.ckpt --model resnet18 -o", "study grid.yaml --choose lr -o",
                                     "export nowhere --model resnet18 --to onnx -o"])  # fmt: skip
def test_the_command_refuses_what_is_no_file_before_it_reads(command, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert main([*command.split(), path]) == 2
    said = capsys.readouterr()
    assert "give the name of a file" in said.err
    assert said.out == ""


def test_load_takes_the_name_of_a_file(packed):
    with pytest.raises(TypeError, match=r"path takes the name of a file, as 'network.safetensors'; got BytesIO"):
        pc.load(io.BytesIO(), nn.Linear(1, 1))


def test_bytes_are_a_path(packed, tmp_path):
    pc.save(packed, os.fsencode(tmp_path / "net.safetensors"))
    assert (tmp_path / "net.safetensors").is_file()
