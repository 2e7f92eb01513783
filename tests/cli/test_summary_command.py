"""`proxconnect summary`: packed files and checkpoints, with and without the code of their networks."""

import pytest
import torch
from checkpoints import CODE, namespace

import proxconnect as pc
from proxconnect.cli.command import main


@pytest.fixture
def theirs(folder):
    (folder / "theirs.py").write_text(CODE)
    return namespace()


def shown(capsys, *arguments: str) -> list[str]:
    assert main(["summary", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def line_of(lines: list[str], start: str) -> list[str]:
    (line,) = (line for line in lines if line.startswith(start))
    return line.split()


def test_a_packed_file_is_told_by_itself(theirs, folder, capsys):
    pc.save(pc.pack(theirs["binary"]()), "net.safetensors")
    lines = shown(capsys, "net.safetensors")
    bits, scales, bias = 8 * 8 * 9 // 8, 8 * 4, 8 * 4
    expected = ["2", "conv2d", "8×8×3×3", "1/1", "channel", "6", "bits,", "saturate", str(bits + scales + bias)]
    assert line_of(lines, "2 ") == expected
    assert line_of(lines, "layers above")[2] == f"{2 * 576:,}"
    assert line_of(lines, "the file")[2] == f"{(folder / 'net.safetensors').stat().st_size:,}"


def test_a_packed_file_with_its_network_is_the_whole_summary(theirs, folder, capsys):
    packed = pc.pack(theirs["binary"]())
    pc.save(packed, "net.safetensors")
    expected = str(pc.summary(packed, theirs["net"].example)).strip("\n").splitlines()
    lines = shown(capsys, "net.safetensors", "--model", "theirs:net")
    assert lines[: len(expected)] == expected
    of_file, blank, *_ = lines[len(expected) :]
    assert of_file.split()[1:3] == ["file", f"{(folder / 'net.safetensors').stat().st_size:,}"]
    assert blank == ""


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_checkpoint_is_told_by_itself(theirs, folder, capsys, prefix):
    binary = pc.binarize(theirs["net"](), "bnn++", {"4": "poly"}, scale="learned")
    optimizer = torch.optim.SGD(binary.parameters(), lr=0.1)
    sharpening = pc.Sharpening(optimizer, binary, steps=10)
    for _ in range(3):
        binary(torch.randn(2, 3, 8, 8)).sum().backward()
        optimizer.step()
    state = {f"{prefix}{name}": tensor for name, tensor in binary.state_dict().items()}
    torch.save({"state_dict": state, "optimizer": optimizer.state_dict()}, "last.pt")
    lines = shown(capsys, "last.pt")
    mu = float(binary[2].weight_quantizer.mu)
    assert sharpening.step_count == 3
    assert line_of(lines, "2 ") == ["2", "8×8×3×3", f"{mu:g}", "learned", "2.3k"]
    assert line_of(lines, "4 ")[2:4] == [f"{mu:g}", f"{float(binary[4].input_quantizer.mu):g}"]
    assert line_of(lines, "optimizer") == ["optimizer", "sharpening_weights:", "3"]
    assert line_of(lines, "binary")[1:2] == ["1,152"]
    assert f"'state_dict.{prefix}'" in " ".join(lines)


def test_a_checkpoint_with_its_network_is_the_whole_summary(theirs, folder, capsys):
    binary = pc.binarize(theirs["net"](), "bnn++", "poly").eval()
    torch.save(binary.state_dict(), "last.pt")
    expected = str(pc.summary(binary, theirs["net"].example)).strip("\n").splitlines()
    assert shown(capsys, "last.pt", "--model", "theirs:net") == expected
    without = shown(capsys, "last.pt", "--model", "theirs:net", "--input", "1", "3", "8", "8")
    assert any("1×8×6×6" in line for line in without)


def test_a_float_checkpoint_has_no_latents(theirs, folder, capsys):
    torch.save(theirs["net"]().state_dict(), "float.pt")
    assert shown(capsys, "float.pt")[0].startswith("no latent weights")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pt"], "No such file"),
        (["theirs.py"], "it is no checkpoint"),
        (["cut.safetensors"], "cut.safetensors: it is truncated"),
        (["flipped.safetensors"], "flipped.safetensors: it is damaged (its checksum"),
        (["half.pt"], "cannot read half.pt: it is no checkpoint of torch, or damaged"),
        (["sparse.pt"], "cannot read sparse.pt: tensor 'a' is sparse"),
        (["itself.pt"], "cannot read itself.pt: what it holds is nested too deeply, or holds itself"),
        (["net.safetensors", "--model", "theirs:other"], "cannot load net.safetensors"),
        (["net.safetensors", "--model", "theirs:net", "--input", "1", "4", "8", "8"], "theirs:net does not take"),
        (["net.safetensors", "--model", "theirs:net", "--input", *["99999999"] * 4], "there is no memory for an input"),
    ],
)
def test_errors_of_a_user_are_one_line(theirs, folder, capsys, arguments, message):
    pc.save(pc.pack(theirs["binary"]()), "net.safetensors")
    whole = (folder / "net.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-9])
    (folder / "flipped.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    torch.save(theirs["net"]().state_dict(), "float.pt")
    (folder / "half.pt").write_bytes((folder / "float.pt").read_bytes()[:5000])
    torch.save({"a": torch.eye(3).to_sparse()}, "sparse.pt")
    itself: dict[str, object] = {}
    itself["itself"] = itself
    torch.save(itself, "itself.pt")
    assert main(["summary", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
