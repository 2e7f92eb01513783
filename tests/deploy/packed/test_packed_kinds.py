"""Every kind of layer packs and loads, and is refused for another architecture."""

import copy
import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import proxconnect as pc
from layer_kinds import KINDS
from proxconnect.deploy.hardening import BinaryInputsWarning
from proxconnect.deploy.packed import PackedFileError, PackedLayer, load_layers, pack_layers, save
from proxconnect.layers import Accumulator, BinaryLayer, binarize_parameter
from shipping import assert_ships

CHANNELS = 6
ACCUMULATORS = {
    "none": None,
    "wrap": Accumulator(2),
    "saturate": Accumulator(3, "saturate"),
    "cyclic": Accumulator(4, "cyclic", 0.5),
}


class Stacked(nn.Module):
    """The weights of several linear layers as one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.randn(2, 3, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ni,eoi->neo", x, self.stack)


class Attending(nn.Module):
    """Attention of an input to itself, or of three inputs of other widths."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(CHANNELS, 2, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (x,) * 3 if self.attention._qkv_same_embed_dim else (x, x[..., :5], x[..., :4])
        output: Tensor = self.attention(query, key, value)[0]
        return output


class Case(NamedTuple):
    """A float network, how it becomes binary, its input, and the packed layer to look at."""

    make: Callable[[], nn.Module]
    sizes: tuple[int, ...]
    layer: str

    def binary(self, dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
        model = self.make().to(dtype)
        if isinstance(model, Stacked):
            binarize_parameter(model, "stack", scale=options.get("scale", "channel"), channel_dims=(0, 1))
            model.stack = torch.randn(model.stack.shape).to(dtype)
        else:
            pc.binarize(model, keep=None, **options)
        for name, alpha in model.named_parameters():
            if name.endswith("alpha"):
                nn.init.normal_(alpha)
        return model


def sequential(kind: str) -> nn.Module:
    return nn.Sequential(KINDS[kind].make(CHANNELS))


CASES = {kind: Case(partial(sequential, kind), (CHANNELS, *KINDS[kind].sizes), "0") for kind in KINDS} | {
    "parameter": Case(Stacked, (CHANNELS,), "stack_binary"),
    "projection": Case(Attending, (3, CHANNELS), "attention.in_proj_weight_binary"),
    "separate projections": Case(
        partial(Attending, kdim=5, vdim=4), (3, CHANNELS), "attention.k_proj_weight_binary"
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)
COMBINATIONS = [
    (case, activations, accumulator)
    for case, activations, accumulator in product(CASES, [None, "bnn"], ACCUMULATORS)
    if (case != "parameter" if activations else accumulator == "none")  # a raw parameter has no input
]


@pytest.mark.covering
@pytest.mark.parametrize(("case", "activations", "accumulator"), COMBINATIONS)
@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_and_loaded_equal_eval(
    case: str, scale: Any, activations: str | None, accumulator: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    options = {"scale": scale, "activations": activations, "accumulator": ACCUMULATORS[accumulator]}
    model = CASES[case].binary(dtype, **options)
    packed = pack_layers(model)
    save(packed, tmp_path / "a")
    with torch.device("meta"):
        skeleton = CASES[case].make().to(dtype)
    x = torch.randn(2, *CASES[case].sizes).to(dtype)
    with torch.no_grad():
        expected = model.eval()(x)
        for other in (
            packed,
            load_layers(tmp_path / "a", skeleton),
            load_layers(tmp_path / "a", CASES[case].make().to(dtype)),
        ):
            assert_ships(other(x), expected, signs=activations is not None)
            assert isinstance(other.get_submodule(CASES[case].layer), PackedLayer)
            assert not [name for name, _ in other.named_parameters() if "latent" in name or "alpha" in name]


def weight_by_the_book(spec: dict[str, Any], bits: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """±1 times the scale of the output channel, by the tables of docs/file-format.md."""
    shape = spec["shape"]
    places = np.arange(np.prod(shape))
    weight = (((bits[places // 8] >> (places % 8)) & 1) * 2.0 - 1.0).reshape(shape)
    if scale is None or scale.shape == ():
        return weight if scale is None else weight * scale
    for index in np.ndindex(*shape):
        if spec["type"] == "parameter":
            channel: Any = tuple(index[d] for d in spec["channel_dims"])
        elif spec["type"].startswith("conv_transpose"):
            group = index[0] // (shape[0] // spec["geometry"]["groups"])
            channel = group * shape[1] + index[1]
        else:
            channel = index[1] if spec["type"] == "transposed_linear" else index[0]
        weight[index] *= scale[channel]
    return weight


@pytest.mark.covering
@every_case
@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_another_reader_rebuilds_the_float_network(case: str, scale: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    model = CASES[case].binary(dtype, scale=scale)
    save(pack_layers(model), tmp_path / "a")
    with safe_open(tmp_path / "a", "numpy") as file:
        metadata = json.loads(file.metadata()["proxconnect"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    expected = pc.hard_state_dict(model)
    for name, spec in metadata["layers"].items():
        weight = weight_by_the_book(spec, tensors.pop(f"{name}.bits"), tensors.pop(f"{name}.scale", None))
        float_name = name.removesuffix("_binary") if spec["type"] in ("parameter", "projection") else f"{name}.weight"
        assert np.array_equal(weight, expected.pop(float_name).double().numpy())
        assert spec["type"] == ("linear" if name.endswith("out_proj") else case.removeprefix("separate ").rstrip("s"))
    assert {name: t.tolist() for name, t in tensors.items()} == {name: t.tolist() for name, t in expected.items()}


@pytest.mark.covering
@every_case
@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_loaded_model_gives_the_floats_of_the_binary_one(
    case: str, scale: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = CASES[case].binary(dtype, scale=scale)
    save(pack_layers(model), tmp_path / "a")
    floats, x = CASES[case].make().to(dtype).eval(), torch.randn(2, *CASES[case].sizes).to(dtype)
    loaded = load_layers(tmp_path / "a", floats)
    state = pc.hard_state_dict(loaded)
    torch.testing.assert_close(dict(state), dict(pc.hard_state_dict(model)), rtol=0, atol=0)
    floats.load_state_dict(state, strict=True)
    assert_ships(floats(x), loaded(x), signs=False)


@pytest.mark.parametrize("case", [case for case in CASES if case != "parameter"])
def test_what_belongs_to_binary_inputs_is_left_out_of_floats(case: str) -> None:
    model = CASES[case].binary(activations="bnn", accumulator=Accumulator(4))
    if "projection" not in case:
        pc.add_thresholds(model)
    with pytest.warns(BinaryInputsWarning, match="quantises activations too"):
        state = pc.hard_state_dict(pack_layers(model))
    CASES[case].make().load_state_dict(state, strict=True)
    weights = {layer.float_key(name): layer.binary_weight for name, layer in model.named_modules()
               if isinstance(layer, BinaryLayer)}  # fmt: skip
    assert weights
    for name, weight in weights.items():
        assert torch.equal(state[name], weight)


OTHERS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "linear": {"is a Linear in the file, but a Conv1D": lambda: Conv1D(6, 6), "shape": lambda: nn.Linear(6, 5)},
    "transposed_linear": {"is a Conv1D in the file, but a Linear": lambda: nn.Linear(6, 6)},
    "conv1d": {
        "has stride": lambda: nn.Conv1d(6, 6, 3, padding=1, stride=2, groups=2),
        "has padding_mode": lambda: nn.Conv1d(6, 6, 3, padding=1, groups=2, padding_mode="circular"),
        "has padding ": lambda: nn.Conv1d(6, 6, 3, padding="same", groups=2),
        "is a Conv1d in the file, but a ConvTranspose1d": lambda: nn.ConvTranspose1d(6, 6, 3, padding=1, groups=2),
    },
    "conv2d": {
        "has dilation": lambda: nn.Conv2d(6, 6, (3, 1), stride=(1, 2), groups=2, dilation=(1, 2)),
        "has a weight of shape": lambda: nn.Conv2d(6, 6, (3, 1), stride=(1, 2), groups=3),
    },
    "conv3d": {
        "has padding ": lambda: nn.Conv3d(6, 4, (2, 1, 3), padding="valid", groups=2),
        "has groups": lambda: nn.Conv3d(3, 4, (2, 1, 3), padding="same"),
    },
    "conv_transpose1d": {
        "has output_padding": lambda: nn.ConvTranspose1d(6, 6, 3, stride=2, groups=2),
        "has stride": lambda: nn.ConvTranspose1d(6, 6, 3, stride=3, output_padding=1, groups=2),
        "has groups": lambda: nn.ConvTranspose1d(6, 9, 3, stride=2, output_padding=1, groups=3),
        "is a ConvTranspose1d in the file, but a Conv1d": lambda: nn.Conv1d(6, 6, 3, stride=2, groups=2),
    },
    "conv_transpose2d": {"has padding ": lambda: nn.ConvTranspose2d(6, 6, (3, 1), groups=2)},
    "conv_transpose3d": {
        "has dilation": lambda: nn.ConvTranspose3d(6, 4, (2, 1, 3), stride=(1, 2, 1), groups=2, dilation=(1, 2, 1))
    },
}  # fmt: skip


@pytest.mark.parametrize(("case", "words"), [(case, words) for case in OTHERS for words in OTHERS[case]])
def test_another_layer_is_refused(case: str, words: str, tmp_path: Path) -> None:
    save(pack_layers(CASES[case].binary()), tmp_path / "a")
    with pytest.raises(PackedFileError, match=f"a: layer '0' {'has a weight of ' * (words == 'shape')}{words}"):
        load_layers(tmp_path / "a", nn.Sequential(OTHERS[case][words]()))


class Renamed(nn.Module):
    def __init__(self, shape: tuple[int, ...] = (2, 3, CHANNELS), name: str = "stack") -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


class Projected(nn.Module):
    """A module with the names of attention that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Module()
        self.attention.in_proj_weight = nn.Parameter(torch.zeros(3 * CHANNELS, CHANNELS))
        self.attention.in_proj_bias = nn.Parameter(torch.zeros(3 * CHANNELS))
        self.attention.out_proj = nn.Linear(CHANNELS, CHANNELS)


@pytest.mark.parametrize(
    ("case", "other", "words"),
    [
        ("parameter", lambda: Renamed(name="heap"), "has a parameter 'stack_binary', which the model lacks"),
        ("parameter", lambda: Renamed((2, 3, 5)), r"'stack_binary' has a weight of shape \(2, 3, 6\)"),
        ("parameter", lambda: Renamed().half(), "is torch.float32 in the file, but torch.float16"),
        ("parameter", Attending, "has a parameter 'stack_binary', which the model lacks"),
        ("projection", Projected, "no in-projection of an nn.MultiheadAttention"),
        ("projection", partial(Attending, kdim=5), "in_proj_weight_binary', which the model lacks"),
        ("projection", partial(Attending, bias=False), "in_proj_bias"),
        ("projection", partial(Attending, add_bias_kv=True), "lacks 'attention.bias_k', 'attention.bias_v'"),
        ("separate projections", Attending, "_proj_weight_binary', which the model lacks"),
        ("separate projections", partial(Attending, kdim=4, vdim=4), "has a weight of shape"),
    ],
)
def test_another_owner_is_refused(case: str, other: Any, words: str, tmp_path: Path) -> None:
    save(pack_layers(CASES[case].binary()), tmp_path / "a")
    with pytest.raises(PackedFileError, match=f"a: .*{words}"):
        load_layers(tmp_path / "a", other())


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the entries of the layers, in the version before checksums."""
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["proxconnect"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata["version"] = 2
    change(metadata["layers"])
    save_file(tensors, path, {"proxconnect": json.dumps(metadata)})


@every_case
def test_rewriting_alone_changes_nothing(case: str, tmp_path: Path) -> None:
    model = CASES[case].binary()
    save(pack_layers(model), tmp_path / "a")
    rewritten(tmp_path / "a", lambda layers: None)
    x = torch.randn(2, *CASES[case].sizes)
    with torch.no_grad():
        assert_ships(load_layers(tmp_path / "a", CASES[case].make())(x), model.eval()(x), signs=False)


WRONG_ENTRIES: list[tuple[str, str, object, str]] = [
    *(("parameter", "channel_dims", dims, "channel_dims must") for dims in ([], [3], [-1], [1, 0], [0, 0], "0", [0.0])),
    ("parameter", "channel_dims", None, "must have channel_dims as a parameter"),
    ("parameter", "channel_dims", [0], "scale' is F32 of shape"),
    ("parameter", "channel_dims", [0, 2], "scale' is F32 of shape"),
    ("projection", "channel_dims", [0], "must have channel_dims as a parameter or none as a projection"),
    ("parameter", "binary_input", True, "has no input that could be binary"),
    ("parameter", "padding_value", 1, "no padding"),
    ("parameter", "type", "projection", "is a projection in the file, but no in-projection"),
    ("projection", "type", "parameter", "must have channel_dims"),
    ("projection", "type", "linear", "has a layer 'attention.in_proj_weight_binary', which the model lacks"),
    ("linear", "type", "transposed_linear", "is a Conv1D in the file, but a Linear"),
    ("linear", "type", "parameter", "has a parameter '0', which the model lacks"),
    ("linear", "channel_dims", [0], "has channel_dims, but is a linear"),
    ("linear", "input_shift", True, "input_shift must be false, or true if binary_input is true"),
    ("linear", "input_shift", 1, "input_shift must be false"),
    ("linear", "type", "conv4d", "unknown type 'conv4d'"),
    ("linear", "geometry", {"stride": [1]}, "geometry must be null or an object"),
    ("transposed_linear", "padding_value", 1, "cannot pad with 1"),
    ("conv_transpose1d", "padding_value", 1, "cannot pad with 1"),
    ("conv_transpose1d", "type", "conv1d", "is a Conv1d in the file, but a ConvTranspose1d"),
    ("conv_transpose1d", "geometry", None, "has no geometry"),
    ("conv1d", "shape", [3, 6, 3], "has a weight of shape"),
]


@pytest.mark.parametrize(("case", "key", "value", "words"), WRONG_ENTRIES)
def test_tampered_entries_are_refused(case: str, key: str, value: object, words: str, tmp_path: Path) -> None:
    save(pack_layers(CASES[case].binary()), tmp_path / "a")
    rewritten(tmp_path / "a", lambda layers: layers[CASES[case].layer].update({key: value}))
    with pytest.raises(PackedFileError, match=words):
        load_layers(tmp_path / "a", CASES[case].make())


GOOD = {"bits": 8, "overflow": "wrap", "slope": 2.0}
WRONG_ACCUMULATORS: list[tuple[object, str]] = [
    (GOOD | {"bits": 1}, "bits must be an integer from 2 to 24"),
    (GOOD | {"bits": 25}, "bits must be an integer"),
    (GOOD | {"bits": True}, "an integer as bits"),
    (GOOD | {"bits": 8.0}, "an integer as bits"),
    (GOOD | {"bits": "8"}, "an integer as bits"),
    (GOOD | {"bits": [8]}, "an integer as bits"),
    (GOOD | {"overflow": "clamp"}, "overflow must be one of"),
    (GOOD | {"overflow": None}, "a string as overflow"),
    (GOOD | {"slope": 0}, "slope must be positive"),
    (GOOD | {"slope": -1.0}, "slope must be positive"),
    (GOOD | {"slope": float("inf")}, "slope must be positive"),
    (GOOD | {"slope": float("nan")}, "slope must be positive"),
    (GOOD | {"slope": 10**400}, "slope"),
    (GOOD | {"slope": "2"}, "a number as slope"),
    (GOOD | {"slope": True}, "a number as slope"),
    (GOOD | {"sign": 1}, "an object with the keys bits, overflow, slope"),
    ({"bits": 8}, "an object with the keys bits, overflow, slope"),
    (8, "null or an object"),
    ([], "null or an object"),
]


@pytest.mark.covering(together=("entry",))
@pytest.mark.parametrize("case", ["linear", "conv_transpose2d", "projection"])
@pytest.mark.parametrize(("entry", "words"), WRONG_ACCUMULATORS)
def test_tampered_accumulators_are_refused(case: str, entry: object, words: str, tmp_path: Path) -> None:
    save(pack_layers(CASES[case].binary(activations="bnn", accumulator=Accumulator(8))), tmp_path / "a")
    rewritten(tmp_path / "a", lambda layers: layers[CASES[case].layer].update({"accumulator": entry}))
    with pytest.raises(PackedFileError, match=words):
        load_layers(tmp_path / "a", CASES[case].make())


@pytest.mark.parametrize("case", ["linear", "parameter", "projection"])
def test_an_accumulator_of_float_inputs_is_refused(case: str, tmp_path: Path) -> None:
    save(pack_layers(CASES[case].binary()), tmp_path / "a")
    rewritten(tmp_path / "a", lambda layers: layers[CASES[case].layer].update({"accumulator": GOOD}))
    with pytest.raises(PackedFileError, match="accumulator must be null, because its input is not binary"):
        load_layers(tmp_path / "a", CASES[case].make())


class Shared(nn.Module):
    """One module, and so one parameter, under two names."""

    def __init__(self, apart: bool = False) -> None:
        super().__init__()
        self.first = Stacked()
        self.second = Stacked() if apart else self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.second(x.flip(-1))


def binary_shared() -> nn.Module:
    model = Shared()
    binarize_parameter(model.first, "stack", channel_dims=(0, 1))
    return model


def test_a_parameter_under_two_names_is_stored_once(tmp_path: Path) -> None:
    model = binary_shared()
    save(pack_layers(model), tmp_path / "a")
    with safe_open(tmp_path / "a", "pt") as file:
        metadata = json.loads(file.metadata()["proxconnect"])
        names = set(file.keys())
    assert sorted(metadata["layers"]) == ["first.stack_binary", "second.stack_binary"]
    assert names == {"first.stack_binary.bits", "first.stack_binary.scale"}
    assert metadata["aliases"] == {name.replace("first", "second"): name for name in names}
    loaded, x = load_layers(tmp_path / "a", Shared()), torch.randn(2, CHANNELS)
    assert loaded.first is loaded.second
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))


def test_names_that_share_in_the_model_alone_or_in_the_file_alone(tmp_path: Path) -> None:
    apart = Shared(apart=True)
    for owner in (apart.first, apart.second):
        binarize_parameter(owner, "stack", channel_dims=(0, 1))
    save(pack_layers(apart), tmp_path / "apart")
    with pytest.raises(PackedFileError, match="one tensor in the model, but two in the file"):
        load_layers(tmp_path / "apart", Shared())
    rewritten(tmp_path / "apart", lambda layers: layers["second.stack_binary"].update({"channel_dims": [0]}))
    with pytest.raises(PackedFileError, match="shared in the model, but not in the file"):
        load_layers(tmp_path / "apart", Shared())
    save(pack_layers(binary_shared()), tmp_path / "together")
    loaded, x = load_layers(tmp_path / "together", Shared(apart=True)), torch.randn(2, CHANNELS)
    with torch.no_grad():
        assert torch.equal(loaded(x), load_layers(tmp_path / "together", Shared())(x))


@every_case
def test_a_packed_model_copies_and_moves(case: str) -> None:
    packed = pack_layers(CASES[case].binary())
    x = torch.randn(2, *CASES[case].sizes)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(packed)(x), packed(x))
        wide = copy.deepcopy(packed).double()(x.double())
        assert torch.allclose(wide.float(), packed(x), rtol=1e-5, atol=1e-6)
