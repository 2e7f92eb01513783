"""Saving and loading, and a second reader that shares no code with the first."""

import copy
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from packed_nets import MLP, Shared, binary_mlp, binary_shared
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fuzzing.packed_files import resealed
from proxconnect.deploy.packed import PackedFileError, load_layers, pack_layers, save
from proxconnect.deploy.packed.layers.forms import PackedConv2d, PackedLinear
from proxconnect.layers import BinaryConv2d, BinaryLinear

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

USUAL = {
    "scale": "channel", "dtype": "float32", "binary_input": False, "accumulator": None, "padding_value": 0,
    "geometry": None, "channel_dims": None,
}  # fmt: skip


def read_by_the_book(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Read the metadata and tensors of a file with numpy, as docs/file-format.md says; bfloat16 becomes float32."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header.pop("__metadata__")["proxconnect"])
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I8": "i1", "U8": "u1"}
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[start:end], kinds[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        tensors[name] = values.reshape(entry["shape"])
    tensors |= {name: tensors[target] for name, target in metadata["aliases"].items()}
    metadata["layers"] = {name: USUAL | spec for name, spec in metadata["layers"].items()}
    return metadata, tensors


def weight_by_the_book(spec: dict, bits: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    count = int(np.prod(spec["shape"]))
    signs = np.unpackbits(bits, count=count, bitorder="little").reshape(spec["shape"]).astype(np.float64) * 2 - 1
    if scale is None:
        return signs
    return signs * scale.astype(np.float64).reshape(-1, *[1] * (signs.ndim - 1))


def round_trip(model: nn.Module, float_model: nn.Module, path: Path) -> nn.Module:
    save(pack_layers(model), path)
    return load_layers(path, float_model)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", ["channel", "tensor", None])
@pytest.mark.parametrize("activations", [None, "poly"])
def test_another_reader_rebuilds_the_weights(
    tmp_path: Path, dtype: torch.dtype, scale: object, activations: str | None
) -> None:
    options = {"dtype": dtype, "scale": scale, "activations": activations}
    model = nn.ModuleDict(
        {"dense": BinaryLinear(5, 3, **options), "sub": nn.Sequential(BinaryConv2d(4, 6, 3, groups=2, **options))}
    )
    save(pack_layers(model), tmp_path / "a")
    metadata, tensors = read_by_the_book(tmp_path / "a")
    assert metadata["version"] == 3
    assert list(metadata["layers"]) == ["dense", "sub.0"]
    for name, spec in metadata["layers"].items():
        layer = model.get_submodule(name)
        weight = weight_by_the_book(spec, tensors[f"{name}.bits"], tensors.get(f"{name}.scale"))
        assert np.array_equal(weight, layer.binary_weight.double().numpy())
        assert np.array_equal(tensors[f"{name}.bias"], layer.bias.detach().to(torch.float64).numpy())
        assert spec["dtype"] == str(dtype).removeprefix("torch.")
        assert spec["binary_input"] == (activations is not None)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activations", [None, "poly"])
@pytest.mark.parametrize("scale", ["channel", "tensor", None])
def test_linear_round_trip(tmp_path: Path, dtype: torch.dtype, activations: str | None, scale: object) -> None:
    layer = BinaryLinear(9, 4, dtype=dtype, activations=activations, scale=scale)
    loaded = round_trip(layer, nn.Linear(9, 4, dtype=dtype), tmp_path / "a")
    input = torch.randn(3, 9, dtype=dtype)
    assert isinstance(loaded, PackedLinear)
    assert torch.equal(loaded(input), pack_layers(layer)(input))


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1, "groups": 2, "bias": False},
        {"padding": "same", "dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("padding_value", [0, 1, -1])
def test_convolution_round_trip(tmp_path: Path, options: dict[str, object], padding_value: int) -> None:
    padding_value *= "padding_mode" not in options
    layer = BinaryConv2d(4, 6, 3, **options, activations="bnn", padding_value=padding_value)
    loaded = round_trip(layer, nn.Conv2d(4, 6, 3, **options), tmp_path / "a")
    image = torch.randn(2, 4, 7, 7)
    assert isinstance(loaded, PackedConv2d)
    assert torch.equal(loaded(image), pack_layers(layer)(image))


def test_shared_and_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    float_model, model = binary_shared()
    image = torch.randn(2, 3, 5, 5)
    loaded = round_trip(model, float_model, tmp_path / "a")
    assert torch.equal(loaded(image), pack_layers(model)(image))
    assert loaded.inner is loaded.again
    assert loaded.output.weight is loaded.embedding.weight
    metadata, tensors = read_by_the_book(tmp_path / "a")
    assert metadata["aliases"] == {
        "again.bits": "inner.bits", "again.scale": "inner.scale", "output.weight": "embedding.weight",
    }  # fmt: skip
    assert metadata["layers"]["again"] == metadata["layers"]["inner"]
    expected = sum(t.nbytes for t in (*model.embedding.parameters(), *model.features[1].state_dict().values()))
    expected += (21 + 4 + 24) + (21 + 24)  # bits, scale and bias of features.0; bits and scales of inner
    assert sum(tensors[name].nbytes for name in set(tensors) - set(metadata["aliases"])) == expected


def test_an_output_layer_tied_to_an_embedding_is_packed_alone(tmp_path: Path) -> None:
    float_model, model = binary_shared()
    BinaryLinear.convert(model.output)
    loaded = round_trip(model, float_model, tmp_path / "a")
    image = torch.randn(2, 3, 5, 5)
    assert torch.equal(loaded.embedding.weight, model.embedding.weight)
    assert torch.equal(loaded(image), pack_layers(model)(image))


def test_a_tensor_in_a_list_is_loaded_too(tmp_path: Path) -> None:
    float_model, model = binary_shared()
    float_model.mine = [float_model.embedding.weight]
    loaded = round_trip(model, float_model, tmp_path / "a")
    assert loaded.mine[0] is loaded.embedding.weight


def test_attention_round_trip(tmp_path: Path) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    float_model = copy.deepcopy(model)
    BinaryLinear.convert(model.self_attn.out_proj)
    BinaryLinear.convert(model.linear1, activations="poly")
    loaded = round_trip(model, float_model, tmp_path / "a")
    tokens = torch.randn(2, 3, 8)
    assert torch.equal(loaded(tokens), pack_layers(model)(tokens))
    assert torch.equal(loaded.self_attn.out_proj.weight, model.self_attn.out_proj.binary_weight)


class Recurrent(nn.Module):
    """Recurrent layers keep lists of their weights, and weak references to them."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.recurrent, self.head = kind(4, 6, bidirectional=True), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(x)[0])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_recurrent_layers_beside_binary_ones(tmp_path: Path, kind: type[nn.RNNBase], device: str) -> None:
    model, x = Recurrent(kind), torch.randn(5, 2, 4)
    BinaryLinear.convert(model.head)
    loaded = round_trip(model, Recurrent(kind).to(device), tmp_path / "a")
    assert torch.equal(loaded(x), pack_layers(model)(x))
    with torch.no_grad():
        loaded.recurrent.weight_ih_l0.zero_()
    assert not torch.equal(loaded(x), pack_layers(model)(x))  # the list holds the very weights


def test_views_of_one_storage_are_stored_apart(tmp_path: Path) -> None:
    storage = torch.arange(6.0)

    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 2))
        model.register_buffer("front", storage[:4])
        model.register_buffer("back", storage[2:].view(2, 2).T)
        return model

    model = build()
    BinaryLinear.convert(model[0])
    loaded = round_trip(model, build(), tmp_path / "a")
    assert loaded.front.tolist() == [0, 1, 2, 3]
    assert loaded.back.tolist() == [[2, 4], [3, 5]]


def test_load_leaves_the_float_model_as_it_is(tmp_path: Path) -> None:
    float_model, model = binary_shared()
    before = copy.deepcopy(float_model.state_dict())
    objects = [id(tensor) for tensor in (*float_model.parameters(), *float_model.buffers())]
    loaded = round_trip(model, float_model, tmp_path / "a")
    assert [id(tensor) for tensor in (*float_model.parameters(), *float_model.buffers())] == objects
    assert all(torch.equal(value, before[name]) for name, value in float_model.state_dict().items())
    assert all(m.training for m in float_model.modules())
    assert type(float_model.inner) is nn.Conv2d
    assert not any(m.training for m in loaded.modules())
    assert not any(p.requires_grad for p in loaded.parameters())


def test_loads_into_the_meta_device_without_a_float_copy(tmp_path: Path) -> None:
    _, model = binary_shared()
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **kwargs or {})
            if isinstance(result, torch.Tensor) and result.is_floating_point() and not result.is_meta:
                largest = max(largest, result.numel())
            return result

    save(pack_layers(model), tmp_path / "a")
    with Watch(), torch.device("meta"):
        loaded = load_layers(tmp_path / "a", Shared(device="meta"))
    assert largest == 5 * 6  # the embedding; both convolutions are larger
    assert {tensor.device.type for tensor in (*loaded.parameters(), *loaded.buffers())} == {"cpu"}
    image = torch.randn(2, 3, 5, 5)
    assert torch.equal(loaded(image), pack_layers(model)(image))


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    packed = pack_layers(binary_mlp())
    save(packed, tmp_path / "a")
    save(load_layers(tmp_path / "a", MLP()), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_may_be_replaced_or_deleted_while_it_is_mapped(tmp_path: Path) -> None:
    model = binary_mlp()
    loaded = round_trip(model, MLP(), tmp_path / "a")
    save(pack_layers(binary_mlp()), tmp_path / "a")
    (tmp_path / "a").unlink()
    input = torch.randn(2, 5)
    assert torch.equal(loaded(input), pack_layers(model)(input))
    save(loaded, tmp_path / "a")
    again = load_layers(tmp_path / "a", MLP())
    save(again, tmp_path / "a")
    assert torch.equal(again(input), loaded(input))


def test_what_is_written_to_a_loaded_model_stays_out_of_the_file(tmp_path: Path) -> None:
    first = round_trip(binary_mlp(), MLP(), tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    second = load_layers(tmp_path / "a", MLP())
    expected = copy.deepcopy(second.state_dict())
    for tensor in first.state_dict().values():
        tensor.zero_()
    assert not any(bool(tensor.any()) for tensor in first.state_dict().values())
    assert (tmp_path / "a").read_bytes() == whole
    assert all(torch.equal(tensor, expected[name]) for name, tensor in second.state_dict().items())


def test_tensors_lie_where_caches_like_it_and_are_not_copied(tmp_path: Path) -> None:
    loaded = round_trip(binary_mlp(), MLP(), tmp_path / "a")
    start = 8 + int.from_bytes((tmp_path / "a").read_bytes()[:8], "little")
    assert start % 64 == 0
    if Path("/proc/self/maps").exists():
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        spans = [
            [int(end, 16) for end in span.split("-")] for span, *_, name in maps if name.endswith(str(tmp_path / "a"))
        ]
        for tensor in loaded.state_dict().values():
            assert any(begin <= tensor.data_ptr() < end for begin, end in spans)


def test_tensors_at_odd_places_are_copied(tmp_path: Path) -> None:
    model = binary_mlp()
    save(pack_layers(model), tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    length = int.from_bytes(data[:8], "little")
    odd = (length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :]
    (tmp_path / "b").write_bytes(resealed(odd))
    input = torch.randn(2, 5)
    loaded = load_layers(tmp_path / "b", MLP())
    assert torch.equal(loaded(input), pack_layers(model)(input))
    assert all(tensor.data_ptr() % tensor.itemsize == 0 for tensor in loaded.state_dict().values())


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    model = binary_mlp()
    save(pack_layers(model), path)
    old = path.read_bytes()

    def fail(file: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        save(pack_layers(binary_mlp()), path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == old


def test_save_says_what_is_missing(tmp_path: Path) -> None:
    for model, words in [
        (binary_mlp(), r"not packed \(binary are 'first', 'last'\): call pc.save\(pc.pack\(model\), path\)"),
        (MLP(), "no packed layer: binarize"),
        (pack_layers(binary_mlp()).to("meta"), "'first.bias' is on the meta device"),
    ]:
        with pytest.raises(ValueError, match=words):
            save(model, tmp_path / "a")
    packed = pack_layers(binary_mlp())
    packed.register_buffer("rotation", torch.ones(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"'rotation' is torch.complex64.*persistent=False"):
        save(packed, tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="must exist"):
        save(pack_layers(binary_mlp()), tmp_path / "nowhere" / "a")
    assert not list(tmp_path.iterdir())


def test_state_that_is_no_tensor_is_not_lost_in_silence(tmp_path: Path) -> None:
    class Counter(nn.Identity):
        def get_extra_state(self) -> int:
            return 3

    with pytest.raises(ValueError, match="module '1' keeps extra state"):
        save(pack_layers(nn.Sequential(BinaryLinear(2, 2), Counter())), tmp_path / "a")


def other(**options: object) -> MLP:
    """An MLP with other layers in the place of its own."""
    model = MLP()
    for name, layer in options.items():
        setattr(model, name, layer)
    return model


@pytest.mark.parametrize(
    ("float_model", "words"),
    [
        (other(first=nn.Linear(5, 8)), r"'first' has a weight of shape \(7, 5\) in the file, but \(8, 5\)"),
        (other(first=nn.Conv2d(5, 7, 1)), "'first' is a Linear in the file, but a Conv2d in the model"),
        (other(first=nn.Linear(5, 7, False)), "it has 'first.bias', which the model lacks"),
        (other(norm=nn.BatchNorm1d(7)), "it lacks 'norm.num_batches_tracked', 'norm.running_mean'"),
        (other(norm=nn.Linear(7, 7)), r"tensor 'norm.weight' is F32 of shape \(7,\) in the file"),
        (nn.Linear(5, 7), "it has a layer 'first', which the model lacks"),
        (
            MLP(torch.float16),
            r"'first' is torch.float32 in the file, but torch.float16.*pass model.to\(torch.float32\)",
        ),
        (other(first=nn.utils.parametrizations.weight_norm(nn.Linear(5, 7))), "no plain parameter"),
        (other(norm=nn.LazyLinear(7)), "module 'norm' is lazy.*run one batch"),
        (other(shift=nn.Buffer(torch.ones(1, device="meta"), persistent=False)), "'shift' of the model itself is not"),
        (binary_mlp(), "'first' is a BinaryLinear already: pass the float architecture"),
        (pack_layers(binary_mlp()), "'first' is a PackedLinear already: pass the float architecture"),
    ],
)
def test_another_architecture_is_refused(tmp_path: Path, float_model: nn.Module, words: str) -> None:
    save(pack_layers(binary_mlp()), tmp_path / "a.safetensors")
    with pytest.raises(PackedFileError, match=rf"a\.safetensors: .*{words}"):
        load_layers(tmp_path / "a.safetensors", float_model)


@pytest.mark.parametrize(
    ("packed", "other", "words"),
    [
        ({}, {"stride": 2}, r"stride \(1, 1\) in the file, but \(2, 2\)"),
        ({"stride": (1, 2)}, {"stride": (2, 1)}, r"stride \(1, 2\) in the file, but \(2, 1\)"),
        ({"padding": 1}, {"padding": (1, 0)}, r"padding \(1, 1\) in the file, but \(1, 0\)"),
        ({"padding": "same"}, {"padding": "valid"}, "padding 'same' in the file, but 'valid'"),
        ({"padding": 1}, {"padding": "same"}, r"padding \(1, 1\) in the file, but 'same'"),
        ({"dilation": 2}, {}, r"dilation \(2, 2\) in the file, but \(1, 1\)"),
        ({"groups": 2}, {"in_channels": 2}, "groups 2 in the file, but 1"),
        ({"padding": 1}, {"padding": 1, "padding_mode": "reflect"}, "padding_mode 'zeros' in the file, but 'reflect'"),
        ({"padding_mode": "circular"}, {"padding_mode": "replicate"}, "padding_mode 'circular' .* 'replicate'"),
    ],
)
def test_a_convolution_of_another_geometry_is_refused(
    tmp_path: Path, packed: dict[str, object], other: dict[str, object], words: str
) -> None:
    sizes = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    save(pack_layers(nn.Sequential(BinaryConv2d(**sizes | packed))), tmp_path / "a")
    assert isinstance(load_layers(tmp_path / "a", nn.Sequential(nn.Conv2d(**sizes | packed)))[0], PackedConv2d)
    with pytest.raises(PackedFileError, match=f"layer '0' has {words} in the model: pass the architecture that was"):
        load_layers(tmp_path / "a", nn.Sequential(nn.Conv2d(**sizes | other)))


def test_another_reader_finds_the_geometry(tmp_path: Path) -> None:
    convolution = BinaryConv2d(4, 6, 3, padding="same", dilation=(1, 2), groups=2)
    convolution.stride = 1  # as torch allows after construction
    save(
        pack_layers(nn.Sequential(convolution, BinaryConv2d(6, 2, 3, (2, 1), (1, 0)), BinaryLinear(2, 2))),
        tmp_path / "a",
    )
    layers = read_by_the_book(tmp_path / "a")[0]["layers"]
    assert layers["0"]["geometry"] == {
        "stride": [1, 1], "padding": "same", "dilation": [1, 2], "groups": 2, "padding_mode": "zeros",
        "output_padding": None,
    }  # fmt: skip
    assert layers["1"]["geometry"] == {
        "stride": [2, 1], "padding": [1, 0], "dilation": [1, 1], "groups": 1, "padding_mode": "zeros",
        "output_padding": None,
    }  # fmt: skip
    assert layers["2"]["geometry"] is None


def test_the_geometry_is_that_of_the_packed_layer_when_it_is_saved(tmp_path: Path) -> None:
    packed = pack_layers(nn.Sequential(BinaryConv2d(2, 3, 3)))
    packed[0].stride = (2, 2)
    save(packed, tmp_path / "a")
    image = torch.randn(1, 2, 7, 7)
    loaded = load_layers(tmp_path / "a", nn.Sequential(nn.Conv2d(2, 3, 3, stride=2)))
    assert torch.equal(loaded(image), packed(image))


def test_arguments_of_the_wrong_kind(tmp_path: Path) -> None:
    packed, path = pack_layers(binary_mlp()), tmp_path / "a"
    for arguments, words in [((path, packed), type(path).__name__), ((packed.state_dict(), path), "OrderedDict")]:
        with pytest.raises(TypeError, match=rf"^save\(model, path\) takes an nn.Module.*got {words}"):
            save(*arguments)
    save(packed, path)
    for arguments, words in [((MLP(), path), type(path).__name__), ((path, lambda: MLP()), "function")]:
        with pytest.raises(TypeError, match=rf"^load\(path, float_model\) takes an nn.Module.*got {words}"):
            load_layers(*arguments)


def test_a_wrapped_model_is_not_saved(tmp_path: Path) -> None:
    packed = pack_layers(binary_mlp())
    with pytest.raises(ValueError, match=r"wrapped in OptimizedModule.*pc.save\(model._orig_mod, path\)"):
        save(torch.compile(packed, backend="eager"), tmp_path / "a")
    with pytest.raises(ValueError, match=r"wrapped in DataParallel.*pc.save\(model.module, path\)"):
        save(nn.DataParallel(packed), tmp_path / "a")
    packed.compile(backend="eager")
    save(packed, tmp_path / "a")
    assert isinstance(load_layers(tmp_path / "a", MLP()), MLP)


def test_sharing_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    def build(shared: bool) -> nn.Sequential:
        layers = [nn.Linear(3, 3), nn.LayerNorm(3), nn.LayerNorm(3)]
        return nn.Sequential(*layers[:2], layers[1 if shared else 2])

    model = build(shared=False)
    BinaryLinear.convert(model[0])
    save(pack_layers(model), tmp_path / "a")
    with pytest.raises(PackedFileError, match=r"'1.weight' and '2.weight' are one tensor in the model"):
        load_layers(tmp_path / "a", build(shared=True))


def test_a_lazily_negated_tensor_is_stored_as_it_reads(tmp_path):
    packed = pack_layers(binary_mlp())
    packed.register_buffer("shift", torch.randn(1, dtype=torch.complex64).conj().imag)
    save(packed, tmp_path / "net.safetensors")
    assert np.array_equal(
        read_by_the_book(tmp_path / "net.safetensors")[1]["shift"], packed.shift.resolve_neg().numpy()
    )
