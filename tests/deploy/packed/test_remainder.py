"""The 8-bit remainder: compared with sums in float64, within the stated bound, and through files."""

import copy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect import kernels
from proxconnect.deploy.packed import PackedFileError, load_layers, pack_layers, save
from proxconnect.deploy.packed.layers.int8 import (
    Int8Conv2d,
    Int8Embedding,
    Int8Layer,
    Int8Linear,
    error,
    levels_of,
    scale_of,
)
from proxconnect.layers import BinaryConv2d, BinaryLinear


class Net(nn.Module):
    """A stem, a binary convolution, a shortcut of one pixel and a head."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False, **options)
        self.norm = nn.BatchNorm2d(8, **options)
        self.inner = nn.Conv2d(8, 12, 3, stride=2, padding=1, **options)
        self.short = nn.Conv2d(8, 12, 1, stride=2, **options)
        self.head = nn.Linear(12, 5, **options)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.stem(image))
        return self.head((self.inner(x) + self.short(x)).mean((2, 3)))


def binary_net(**options: Any) -> Net:
    model = Net(**options)
    BinaryConv2d.convert(model.inner)
    return model.eval()


def packed_alone(layer: nn.Module) -> Any:
    """The 8-bit form of a float layer."""
    return pack_layers(nn.Sequential(BinaryLinear(2, 2), layer), remainder="int8")[1]


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "stem": {"in_channels": 3, "out_channels": 8, "kernel_size": 7, "stride": 2, "padding": 3},
    "pixel": {"in_channels": 20, "out_channels": 9, "kernel_size": 1, "stride": 2, "bias": False},
    "patches": {"in_channels": 3, "out_channels": 17, "kernel_size": 4, "stride": 4},
    "groups": {"in_channels": 6, "out_channels": 9, "kernel_size": 3, "groups": 3, "padding": 1},
    "dilation": {"in_channels": 5, "out_channels": 4, "kernel_size": 3, "dilation": 2, "padding": (2, 1)},
    "same": {"in_channels": 4, "out_channels": 4, "kernel_size": 4, "padding": "same"},
    "circular": {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "padded pixel": {"in_channels": 4, "out_channels": 4, "kernel_size": 1, "padding": 1, "stride": 2},
}


def by_the_book(layer: Any, input: Tensor) -> Tensor:
    """An 8-bit layer's output, its sums in float64, which holds them."""
    if isinstance(layer, Int8Conv2d) and layer.kernel_size == (1, 1) and layer.padding == (0, 0):
        input = input[..., :: layer.stride[0], :: layer.stride[1]]
    most = input.abs().amax((-1,) if isinstance(layer, Int8Linear) else (-3, -2, -1), keepdim=True)
    whole, step = torch.round(input * (torch.full_like(most, 127) / most)).double(), most / 127
    reference = copy.deepcopy(layer)
    if isinstance(layer, Int8Linear):
        sums = functional.linear(whole, layer.levels.double())
    else:
        if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
            reference.stride = (1, 1)
        sums = nn.Conv2d._conv_forward(reference, whole, layer.levels.double(), None)
    along = (-1,) if isinstance(layer, Int8Linear) else (-1, 1, 1)
    output = sums.float() * step * layer.scale.view(along)
    return output if layer.bias is None else output + layer.bias.view(along)


@pytest.mark.covering
@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("by_torch", [False, True])
def test_convolutions(
    case: str, memory_format: torch.memory_format, by_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_torch:
        monkeypatch.setattr(kernels, "is_built", lambda: False)
    layer = nn.Conv2d(**CONVOLUTIONS[case])
    form = packed_alone(layer)
    assert isinstance(form, Int8Conv2d)
    is_slow = kernels.instruction_sets()[-1:] in (("portable",), ("neon",))  # slower than torch
    assert (form.prepacked is None) == (by_torch or case == "groups" or is_slow)
    image = torch.randn(2, layer.in_channels, 9, 10).to(memory_format=memory_format)
    with torch.inference_mode():
        output = form(image)
        assert torch.equal(output, by_the_book(form, image))
        assert torch.equal(form(image[0]), by_the_book(form, image[0]))
        assert output.stride() == layer(image).stride()
    measured, bound = error(form, layer, image)
    assert 0 < measured <= bound * (1 + 1e-5) < 0.2


@pytest.mark.parametrize("by_torch", [False, True])
@given(shape=st.lists(st.integers(0, 3), max_size=2), entries=st.integers(1, 80), outputs=st.integers(1, 40))
def test_linear(by_torch: bool, shape: list[int], entries: int, outputs: int) -> None:
    layer = nn.Linear(entries, outputs)
    form, input = packed_alone(layer), torch.randn(*shape, entries)
    if by_torch:
        form.prepacked = None
    with torch.inference_mode():
        assert torch.equal(form(input), by_the_book(form, input))
    if input.numel():
        measured, bound = error(form, layer, input)
        assert measured <= bound * (1 + 1e-4) + 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    model = binary_net(dtype=dtype)
    packed, image = pack_layers(model, remainder="int8"), torch.randn(2, 3, 16, 16, dtype=dtype)
    assert packed.stem.weight.dtype == packed.stem.scale.dtype == dtype
    with torch.inference_mode():
        assert packed(image).dtype == dtype
        torch.testing.assert_close(packed(image), pack_layers(model)(image), rtol=0.1, atol=0.05)


def test_levels_are_nearest_and_halves_go_to_even() -> None:
    weight = torch.tensor([[127.0, 0.5, 1.5, -2.5, 2.50001], [0, 0, 0, 0, 0], [1e-30, -1e-30, 0, 0, 4e-31]])
    levels = levels_of(weight, scale_of(weight))
    assert levels.tolist() == [[127, 0, 2, -2, 3], [0] * 5, [127, -127, 0, 0, 51]]
    assert scale_of(weight)[1] == 0


def test_which_layers_become_8_bit_ones() -> None:
    class Own(nn.Linear):
        pass

    model = nn.ModuleDict(
        {
            "binary": BinaryLinear(4, 4), "linear": nn.Linear(4, 4), "own": Own(4, 4), "line": nn.Conv1d(4, 4, 1),
            "attention": nn.MultiheadAttention(4, 2), "tied": nn.Linear(4, 4), "embedding": nn.Embedding(4, 4),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        }
    )  # fmt: skip
    model["tied"].weight = model["embedding"].weight
    model["again"] = model["linear"]
    packed = pack_layers(model, remainder="int8")
    assert [n for n, m in packed.named_modules() if isinstance(m, Int8Layer)] == ["linear", "tied", "embedding"]
    assert packed["again"] is packed["linear"]


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    layer = nn.Linear(6, 4)
    form, input = packed_alone(layer), torch.randn(3, 6, requires_grad=True)
    form(input).sum().backward()
    assert input.grad is not None
    torch.testing.assert_close(input.grad, form.weight.sum(0).expand(3, 6))
    torch.testing.assert_close(form(input), form(input.detach()))


def test_not_finite_inputs_make_nan() -> None:
    form = packed_alone(nn.Conv2d(3, 4, 3))
    image = torch.randn(2, 3, 5, 5)
    image[1, 2, 4, 4] = float("inf")
    with torch.inference_mode():
        for _ in range(2):
            assert form(image).isnan().flatten(1).all(1).tolist() == [False, True]
            form.prepacked = None


def test_compiled_exported_and_copied() -> None:
    packed, image = pack_layers(binary_net(), remainder="int8"), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = packed(image)
        assert torch.equal(copy.deepcopy(packed)(image), expected)
        assert torch.equal(torch.compile(packed, backend="aot_eager", fullgraph=True)(image), expected)
        assert torch.equal(torch.export.export(packed, (image,)).module()(image), expected)


def test_levels_that_change_change_the_answer() -> None:
    form, input = packed_alone(nn.Linear(6, 4, bias=False)), torch.randn(3, 6)
    with torch.inference_mode():
        before = form(input)
    form.levels.neg_()
    with torch.inference_mode():
        assert torch.equal(form(input), -before)
    form.load_state_dict({"levels": torch.zeros(4, 6, dtype=torch.int8), "scale": form.scale})
    with torch.inference_mode():
        assert not form(input).any()


class Words(nn.Module):
    """Embeddings of several kinds, and a binary layer."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6, padding_idx=0, **options)
        self.bounded = nn.Embedding(11, 6, max_norm=1.0, **options)
        self.inner = nn.Linear(6, 4, **options)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.inner(self.words(numbers) + self.bounded(numbers))


def binary_words(**options: Any) -> Words:
    model = Words(**options)
    BinaryLinear.convert(model.inner)
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("vectors", ["float32", "float16"])
def test_embeddings(dtype: torch.dtype, vectors: Any, tmp_path: Path) -> None:
    model, numbers = binary_words(dtype=dtype), torch.randint(11, (3, 7))
    packed = pack_layers(model, remainder="int8", vectors=vectors)
    assert type(packed.bounded) is nn.Embedding  # which its forward writes to
    by_the_book = (packed.words.levels.to(dtype) * packed.words.scale[:, None])[numbers]
    assert torch.equal(packed.words(numbers), by_the_book)
    off = (by_the_book.double() - model.words(numbers).double()).abs()
    most = model.words.weight.double().abs().amax(1)[numbers][..., None]
    rounding = max(torch.finfo(dtype).eps, torch.finfo(torch.float16).eps if vectors == "float16" else 0.0)
    assert bool((off <= most * (1 / 254 + rounding)).all())
    assert not packed.words.levels[0].any()  # the row of padding
    measured, bound = error(packed.words, model.words, numbers)
    assert 0 < measured <= bound + rounding
    with pytest.raises(IndexError):
        packed.words(torch.tensor([-1]))
    save(packed, tmp_path / "a")
    loaded = load_layers(tmp_path / "a", Words(dtype=dtype, device="meta"))
    assert torch.equal(loaded(numbers), packed(numbers))
    assert pc.hard_state_dict(packed)["words.weight"].equal(packed.words.weight)


class Tied(nn.Module):
    """An embedding, a binary layer, and a head with the weight of the embedding."""

    def __init__(self, words: nn.Module | None = None) -> None:
        super().__init__()
        self.words = words or nn.Embedding(11, 6)
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11)
        self.head.weight = self.words.weight

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(self.inner(self.words(numbers)))


def binary_tied(words: nn.Module | None = None) -> Tied:
    model = Tied(words)
    BinaryLinear.convert(model.inner)
    return model.eval()


@pytest.mark.parametrize("vectors", ["float32", "float16"])
def test_a_tied_head_and_embedding_share_their_8_bits_wherever_they_go(vectors: Any, tmp_path: Path) -> None:
    model, numbers = binary_tied(), torch.randint(11, (3, 7))
    packed = pc.pack(model, remainder="int8", vectors=vectors)
    pc.save(packed, tmp_path / "a")
    loaded = pc.load(tmp_path / "a", Tied())
    pc.save(loaded, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", "pt") as file:
        assert sum(name.endswith("levels") for name in file.keys()) == 1  # noqa: SIM118  # no mapping
    apart = binary_tied()
    apart.head.weight = nn.Parameter(model.words.weight.detach().clone())
    apart.load_state_dict(model.state_dict())
    untied = pc.pack(apart, remainder="int8", vectors=vectors)
    for network in (packed, loaded, copy.deepcopy(packed)):
        assert isinstance(network.words, Int8Embedding)
        assert network.head.levels is network.words.levels
        assert network.head.scale is network.words.scale
        assert torch.equal(network(numbers), untied(numbers))
    floats = Tied()
    floats.load_state_dict(pc.hard_state_dict(loaded), strict=True)
    assert torch.equal(floats.head.weight, packed.words.weight)


def test_a_weight_that_a_module_writes_to_stays_float_in_all_that_share_it() -> None:
    packed = pack_layers(binary_tied(nn.Embedding(11, 6, max_norm=1.0)), remainder="int8")
    assert type(packed.words) is nn.Embedding
    assert type(packed.head) is nn.Linear
    assert packed.head.weight is packed.words.weight


def test_an_embedding_is_within_its_bound_in_a_proof() -> None:
    model = binary_words()
    proof = pc.pack(model, remainder="int8", example=torch.randint(11, (3, 7))).packing.proof
    assert proof.rounded == 1
    assert 0 < proof.rounded_gap < 1 / 254 + 1e-6


@pytest.mark.parametrize(("remainder", "vectors"), list(product(["float", "int8"], ["float32", "float16"])))
def test_round_trip(tmp_path: Path, remainder: Any, vectors: Any) -> None:
    packed = pack_layers(binary_net(), remainder=remainder, vectors=vectors)
    image = torch.randn(2, 3, 17, 17)
    save(packed, tmp_path / "a")
    loaded = load_layers(tmp_path / "a", Net(device="meta"))
    with torch.inference_mode():
        assert torch.equal(loaded(image), packed(image))
    assert isinstance(loaded.stem, Int8Conv2d) == (remainder == "int8")
    save(loaded, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    tensor_bytes = (tmp_path / "a").stat().st_size - 8 - int.from_bytes((tmp_path / "a").read_bytes()[:8], "little")
    assert pc.summary(loaded).packed_bytes == pc.summary(packed).packed_bytes == tensor_bytes


def test_summary_counts_8_bits() -> None:
    rows = {
        row.name: row for row in pc.summary(pack_layers(binary_net(), remainder="int8"), torch.randn(1, 3, 16, 16)).rows
    }
    assert (rows["stem"].weight_bits, rows["stem"].input_bits) == (8, 8)
    assert rows["stem"].packed_bytes == 8 * 3 * 49 + 8 * 4
    assert rows["stem"].float_macs == 8 * 3 * 49 * 64
    assert rows["inner"].weight_bits == 1


def test_damaged_layers_are_refused(tmp_path: Path) -> None:
    packed = pack_layers(binary_net(), remainder="int8")
    for value, words in [
        (float("nan"), "is infinite or NaN"),
        (float("inf"), "is infinite or NaN"),
        (-1.0, "is negative"),
    ]:
        damaged = copy.deepcopy(packed)
        damaged.head.scale[2] = value
        save(damaged, tmp_path / "a")
        with pytest.raises(PackedFileError, match=f"layer 'head' is damaged: a scale {words}"):
            load_layers(tmp_path / "a", Net())
    packed.head.levels[1, 1] = -128
    save(packed, tmp_path / "a")
    with pytest.raises(PackedFileError, match="layer 'head' is damaged: a weight is -128"):
        load_layers(tmp_path / "a", Net())


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    class Own(nn.Linear):
        pass

    save(pack_layers(binary_net(), remainder="int8"), tmp_path / "a")
    for name, other, words in [
        ("head", Own(12, 5), "'head' is a Linear in the file, but an Own"),
        ("head", nn.Linear(12, 6), "'head' has a weight of shape"),
        ("stem", nn.Conv2d(3, 8, 7, padding=3, bias=False), "'stem' has stride"),
        (
            "head",
            nn.utils.parametrizations.weight_norm(nn.Linear(12, 5)),
            "'head' is a Linear in the file, but a Param",
        ),
    ]:
        model = Net()
        setattr(model, name, other)
        with pytest.raises(PackedFileError, match=words):
            load_layers(tmp_path / "a", model)


def test_bad_arguments() -> None:
    for options, words in [
        ({"remainder": "int4"}, "remainder must be 'float' or 'int8'"),
        ({"vectors": 16}, "vectors"),
    ]:
        with pytest.raises(ValueError, match=words):
            pack_layers(binary_net(), **options)
    model = binary_net()
    nn.init.constant_(model.head.weight, float("nan"))
    with pytest.raises(ValueError, match="layer 'head': its weight has NaN or infinite entries"):
        pack_layers(model, remainder="int8")
    with pytest.raises(ValueError, match="relative to the largest output"):
        error(packed_alone(nn.Linear(2, 2, bias=False)), nn.Linear(2, 2, bias=False), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="has no packed layer"):
        save(nn.Sequential(packed_alone(nn.Linear(2, 2))), "never")
