"""Vectors rounded to float16: which ones, by how much, and how the file stores them."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_nets import MLP, Shared, binary_mlp, binary_shared
from torch import Tensor, nn

from fuzzing.packed_files import resealed
from proxconnect.deploy.packed import PackedFileError, load_layers, pack_layers, save
from proxconnect.deploy.packed.half_vectors import as_half, halved, is_vector


def header_of(path: Path) -> dict[str, dict[str, object]]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((), True), ((3,), True), ((1, 1, 7), True), ((1, 5, 7), True), ((1, 7, 1, 1), True), ((2, 3), False),
     ((5, 1, 7), False), ((1, 2, 3, 4), False), ((0,), True)],
)  # fmt: skip
def test_what_a_vector_is(shape: tuple[int, ...], expected: bool) -> None:
    assert is_vector(torch.ones(shape)) == expected
    assert not is_vector(torch.ones(shape, dtype=torch.float64))


@given(st.lists(st.floats(width=32), max_size=5))
def test_rounding_is_to_the_nearest_half_or_not_at_all(values: list[float]) -> None:
    vector = torch.tensor(values, dtype=torch.float32)
    near = halved(vector)
    if near is vector:
        return
    assert torch.equal(near, vector.half().float())
    off, size = (near - vector).abs().double(), vector.abs().double()
    if not len(values):
        return
    assert (off <= 2.0**-10 * (size.max() if (vector < 0).any() else size)).all()
    half = as_half(near)
    assert half is not None
    assert torch.equal(half.float(), near)


@pytest.mark.parametrize(
    ("values", "is_rounded"),
    [
        ([1e-3, 1.0], True), ([1e-7, 1.0], False), ([-1e-7, 1.0], True), ([-1e-7, 1e-7], False), ([0.0, 1.0], True),
        ([65504.0], True), ([65520.0], False), ([float("nan")], False), ([float("inf")], False), ([2.0**-24], True),
        ([1.0, 2049.0], True), ([0.0], True),
    ],
)  # fmt: skip
def test_what_16_bits_cannot_hold_stays(values: list[float], is_rounded: bool) -> None:
    vector = torch.tensor(values)
    assert (halved(vector) is not vector) == is_rounded


def test_minus_zero_keeps_its_sign() -> None:
    half = as_half(torch.tensor([-0.0, 0.0]))
    assert half is not None
    assert half.signbit().tolist() == [True, False]


def test_what_is_packed_is_what_is_shipped(tmp_path: Path) -> None:
    model = binary_mlp()
    model.norm.weight.data.normal_(), model.norm.bias.data.normal_()
    packed, input = pack_layers(model, vectors="float16"), torch.randn(4, 5)
    assert torch.equal(packed.norm.weight, model.norm.weight.half().float())
    assert packed.norm.weight.dtype == torch.float32
    save(packed, tmp_path / "a")
    loaded = load_layers(tmp_path / "a", MLP())
    assert torch.equal(loaded(input), packed(input))
    assert all(entry["dtype"] in ("F16", "U8") for name, entry in header_of(tmp_path / "a").items() if "_" not in name)
    assert all(tensor.dtype != torch.float16 for tensor in loaded.state_dict().values())


def test_what_changed_after_packing_is_saved_as_it_is(tmp_path: Path) -> None:
    packed = pack_layers(binary_mlp(), vectors="float16")
    packed.norm.bias.fill_(1 / 3)
    packed.norm.weight.fill_(1e30)
    save(packed, tmp_path / "a")
    assert [header_of(tmp_path / "a")[f"norm.{name}"]["dtype"] for name in ("bias", "weight")] == ["F32", "F32"]
    assert torch.equal(load_layers(tmp_path / "a", MLP()).norm.bias, packed.norm.bias)


def test_tiny_variances_and_huge_means_stay(tmp_path: Path) -> None:
    _, model = binary_shared()
    norm = model.features[1]
    norm.running_var[0], norm.running_mean[1] = 1e-9, 1e6
    packed, image = pack_layers(model, vectors="float16"), torch.randn(1, 3, 5, 5)
    assert torch.equal(packed.features[1].running_var, norm.running_var)
    assert torch.equal(packed.features[1].running_mean, norm.running_mean)
    save(packed, tmp_path / "a")
    entries = header_of(tmp_path / "a")
    assert [entries[f"features.1.{name}"]["dtype"] for name in ("running_var", "weight")] == ["F32", "F16"]
    torch.testing.assert_close(load_layers(tmp_path / "a", Shared())(image), packed(image))


def test_halves_where_nothing_says_so_are_refused(tmp_path: Path) -> None:
    def claim(path: Path, vectors: str) -> None:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        text = data[8 : 8 + length].replace(b'\\"vectors\\":\\"float16\\"', f'\\"vectors\\":\\"{vectors}\\"'.encode())
        path.write_bytes(resealed(len(text).to_bytes(8, "little") + text + data[8 + length :]))

    save(pack_layers(binary_mlp(), vectors="float16"), tmp_path / "a")
    claim(tmp_path / "a", "float16")
    assert isinstance(load_layers(tmp_path / "a", MLP()), MLP)
    claim(tmp_path / "a", "float32")
    with pytest.raises(PackedFileError, match=r"is F16 of shape .* but must be F32"):
        load_layers(tmp_path / "a", MLP())


def test_matrices_are_never_halves(tmp_path: Path) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp, self.table = MLP(), nn.Parameter(torch.ones(2, 3))

        def forward(self, input: Tensor) -> Tensor:
            return self.mlp(input)

    model = Table()
    model.mlp = binary_mlp()
    save(pack_layers(model, vectors="float16"), tmp_path / "a")
    assert header_of(tmp_path / "a")["table"]["dtype"] == "F32"
    assert torch.equal(load_layers(tmp_path / "a", Table()).table, torch.ones(2, 3))
