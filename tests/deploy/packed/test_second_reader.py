"""The pages on packed files are enough to read one: `second_reader.py`, written from them, agrees with `pc.load`."""

import ast
import copy
from pathlib import Path

import numpy as np
import pytest
import second_reader
import torch
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.layers import Accumulator, BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryLinear

LINEAR = {
    "float-input": {},
    "binary-input": {"activations": "bnn"},
    "no-scale": {"activations": "bnn", "scale": None},
    "one-scale": {"scale": "tensor"},
    "groups": {"group_size": 7},
    "wraps": {"activations": "bnn", "accumulator": Accumulator(3)},
    "saturates": {"activations": "bnn", "accumulator": Accumulator(3, "saturate")},
}
CONV = {
    "padded": {"padding": 1},
    "strided": {"stride": (2, 1), "padding": (0, 2)},
    "dilated-in-groups": {"dilation": 2, "groups": 2, "padding": 2},
    "same": {"padding": "same", "kernel_size": (2, 3)},
    "valid": {"padding": "valid"},
    "reflected": {"padding": 1, "padding_mode": "reflect"},
    "replicated": {"padding": 1, "padding_mode": "replicate"},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "pixels": {"kernel_size": 1, "stride": 2},
}


def conv2d(bias: bool = True, **geometry: object) -> nn.Conv2d:
    return nn.Conv2d(4, 6, **{"kernel_size": 3, "bias": bias} | geometry)


def binary_conv(activations: str | None = None, padding_value: int = 0, **geometry: object) -> nn.Conv2d:
    layer = conv2d(**geometry)
    BinaryConv2d.convert(layer, activations=activations)
    if padding_value:
        layer.set_padding_value(padding_value)
    return layer


def assert_read_alike(path: Path, model: nn.Module, architecture: nn.Module, example: Tensor, **options: str) -> None:
    """Compare the first layer of a sequence in both readers: equal weights, and outputs up to rounding."""
    pc.save(pc.pack(model.eval(), **options), path)
    (loaded, *_) = pc.load(path, architecture)
    _, layers = second_reader.read(path)
    np.testing.assert_array_equal(second_reader.weight(layers["0"]), loaded.weight)
    answers = second_reader.answer(layers["0"], example.numpy())
    np.testing.assert_allclose(answers, loaded(example).detach(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("options", LINEAR.values(), ids=LINEAR)
def test_linear_layers(tmp_path: Path, options: dict) -> None:
    layer = nn.Linear(21, 5)
    BinaryLinear.convert(layer, **options)
    example = torch.randn(2, 3, 21).index_fill(-1, torch.tensor([0]), -0.0)
    assert_read_alike(tmp_path / "file", nn.Sequential(layer), nn.Sequential(nn.Linear(21, 5)), example)


@pytest.mark.parametrize("activations", [None, "bnn"], ids=["floats", "signs"])
@pytest.mark.parametrize("geometry", CONV.values(), ids=CONV)
def test_convolutions(tmp_path: Path, geometry: dict, activations: str | None) -> None:
    layer = binary_conv(activations, **geometry)
    example = torch.randn(2, 4, 7, 8)
    assert_read_alike(tmp_path / "file", nn.Sequential(layer), nn.Sequential(conv2d(**geometry)), example)


@pytest.mark.parametrize("value", [-1, 1], ids=["minus-one", "plus-one"])
def test_padding_by_signs(tmp_path: Path, value: int) -> None:
    layer = binary_conv("bnn", padding_value=value, padding=1)
    assert_read_alike(
        tmp_path / "file", nn.Sequential(layer), nn.Sequential(conv2d(padding=1)), torch.randn(2, 4, 5, 5)
    )


@pytest.mark.parametrize("binary", [BinaryConv1d, BinaryConv3d], ids=["conv1d", "conv3d"])
def test_other_dimensions(tmp_path: Path, binary: type) -> None:
    kind, sizes = (nn.Conv1d, (9,)) if binary is BinaryConv1d else (nn.Conv3d, (5, 4, 6))
    layer = binary.convert(kind(4, 6, 3, padding=1, stride=2))
    architecture = nn.Sequential(kind(4, 6, 3, padding=1, stride=2))
    assert_read_alike(tmp_path / "file", nn.Sequential(layer), architecture, torch.randn(2, 4, *sizes))


def test_learned_thresholds(tmp_path: Path) -> None:
    layer = binary_conv("bnn", padding=1)
    model = pc.add_thresholds(nn.Sequential(layer))
    nn.init.normal_(layer.input_shift.shift)
    assert_read_alike(tmp_path / "file", model, nn.Sequential(conv2d(padding=1)), torch.randn(2, 4, 5, 5))


def in_8_bits(first: nn.Module) -> nn.Sequential:
    """A network with one binary layer, whose other layers stay float."""
    return nn.Sequential(first, nn.Flatten(0), nn.LazyLinear(3))


@pytest.mark.parametrize("geometry", [CONV["padded"], CONV["same"], CONV["pixels"]], ids=["padded", "same", "pixels"])
def test_convolutions_of_8_bits(tmp_path: Path, geometry: dict) -> None:
    example = torch.randn(2, 4, 7, 8)
    model, architecture = in_8_bits(conv2d(**geometry)), in_8_bits(conv2d(**geometry))
    model(example), architecture(example)
    BinaryLinear.convert(model[2])
    assert_read_alike(tmp_path / "file", model, architecture, example, remainder="int8")


def test_linear_layers_of_8_bits_and_vectors_of_16(tmp_path: Path) -> None:
    example = torch.randn(3, 21)
    model, architecture = in_8_bits(nn.Linear(21, 5)), in_8_bits(nn.Linear(21, 5))
    model(example), architecture(example)
    BinaryLinear.convert(model[2])
    assert_read_alike(tmp_path / "file", model, architecture, example, remainder="int8", vectors="float16")


def test_tensors_of_the_remainder_and_aliases(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 4))
    BinaryLinear.convert(model[0])
    model[3].weight = model[2].weight
    packed = pc.pack(model.eval())
    pc.save(packed, tmp_path / "file")
    tensors, _ = second_reader.read(tmp_path / "file")
    state = packed.state_dict()
    assert set(tensors) == set(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_damage_is_found_by_both_readers_anywhere_in_a_large_file(tmp_path: Path) -> None:
    path, architecture = tmp_path / "file", nn.Sequential(nn.Linear(8, 400), nn.Linear(400, 400))
    binary = pc.binarize(copy.deepcopy(architecture), keep=["1"])
    pc.save(pc.pack(binary.eval()), path)
    whole = path.read_bytes()
    assert len(whole) > 600_000
    for reader in (second_reader.read, lambda path: pc.load(path, architecture)):
        path.write_bytes(whole)
        reader(path)
        for place in (whole.index(b"linear"), len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(ValueError, match="is damaged"):
                reader(path)


def test_the_reader_is_short_and_needs_numpy_alone() -> None:
    code = Path(second_reader.__file__).read_text()
    assert sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(code))) <= 70
    imported = [name.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import) for name in node.names]
    assert set(imported) == {"json", "numpy", "zlib"}
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(ast.parse(code)))
