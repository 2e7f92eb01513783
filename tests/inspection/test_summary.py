"""The summary's bytes against the file, its operations against torch's counter and by hand."""

import json
import pickle

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from proxconnect import binarize_parameter
from proxconnect.conversion import binarize
from proxconnect.deploy.packed import pack_layers, save
from proxconnect.inspection import summary
from proxconnect.layers import BinaryLayer, add_thresholds


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, groups=2, stride=2, padding=1), nn.Flatten(),
        nn.Linear(54, 7), nn.Linear(7, 5),
    )  # fmt: skip


IMAGE = torch.randn(2, 3, 7, 7)


def tensor_bytes_in(path) -> int:
    """The bytes behind the header of a safetensors file, which its offsets must agree with."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert max(ends) == len(content) - 8 - length
    return max(ends)


@pytest.fixture
def slow_path():
    """Have attention computed by operations that torch's counter knows."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(enabled)


def flops(model: nn.Module, *args) -> int:
    model.eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*args)
    return counter.get_total_flops()


def shared() -> nn.Module:
    """One layer under two names, a tied parameter, a tied buffer, buffers that are not persistent."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    model.add_module("again", model[1])
    model[3].bias = model[1].bias
    model[4].weight = model[0].weight
    model.register_buffer("gone", torch.zeros(7), persistent=False)
    model.register_buffer("kept", torch.zeros(3, dtype=torch.int64))
    model[2].register_buffer("same", model.kept)
    return binarize(model, keep=None)


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=3)


MODELS = {
    "net": lambda: binarize(net(), activations="poly"),
    "no scale": lambda: binarize(net(), scale=None),
    "scale per tensor": lambda: binarize(net(), scale="tensor", keep=None),
    "float16": lambda: binarize(net().half()),
    "pair fp": lambda: binarize(net(), "fp"),
    "shared": shared,
    "resnet18": lambda: binarize(torchvision.models.resnet18()),
    "mnasnet0_5": lambda: binarize(torchvision.models.mnasnet0_5()),
    "swin": lambda: binarize(swin()),
    "attention": lambda: binarize(nn.TransformerEncoderLayer(8, 2, 16), keep=None),
}


@pytest.mark.parametrize("name", MODELS)
def test_packed_bytes_are_those_of_the_file(name, tmp_path):
    model = MODELS[name]()
    result = summary(model)
    packed = pack_layers(model)
    save(packed, tmp_path / "model.safetensors")
    assert result.packed_bytes == tensor_bytes_in(tmp_path / "model.safetensors")
    again = summary(packed)
    for total in ("packed_bytes", "float_bytes", "parameters", "binary_parameters"):
        assert getattr(again, total) == getattr(result, total)


@pytest.mark.parametrize("build", [torchvision.models.resnet18, torchvision.models.mnasnet0_5, swin])
def test_float_bytes_are_those_of_the_float_state_dict(build):
    model = build()
    expected = sum(tensor.nbytes for tensor in model.state_dict().values())
    parameters = sum(p.numel() for p in model.parameters())
    assert (summary(model).float_bytes, summary(model).packed_bytes) == (expected, expected)
    binary = summary(binarize(model))
    assert (binary.float_bytes, binary.parameters) == (expected, parameters)
    layers = [m for m in model.modules() if isinstance(m, BinaryLayer)]
    assert binary.binary_parameters == sum(layer.latent.numel() for layer in layers)


def test_a_latent_of_two_layers_counts_once():
    model = binarize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), keep=None)
    model[1].latent = model[0].latent
    result = summary(model)
    assert (result.parameters, result.binary_parameters) == (16 + 4 + 4, 16)


def test_learned_scales_do_not_count_and_thresholds_do():
    def numbers(model):
        return summary(model).parameters, summary(model).float_bytes

    model = binarize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "bnn++", "poly", keep=None, scale="learned")
    assert numbers(model) == numbers(pack_layers(model)) == (40, 160)
    add_thresholds(model)
    assert numbers(model) == numbers(pack_layers(model)) == (48, 192)


def test_a_latent_that_a_float_layer_shares_counts_as_both(tmp_path):
    model = binarize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), keep="1")
    model[1].weight = model[0].latent
    result = summary(model)
    assert result.float_bytes == 4 * (16 + 4 + 4)
    assert result.parameters == 16 + 4 + 4
    save(pack_layers(model), tmp_path / "m")
    assert result.packed_bytes == tensor_bytes_in(tmp_path / "m")


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (torchvision.models.resnet18, (1, 3, 64, 64)),
        (torchvision.models.mobilenet_v3_small, (2, 3, 64, 64)),
        (swin, (2, 3, 32, 32)),
        (lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 16, 32), (2, 3, 32, 32)),
    ],
    ids=["resnet18", "mobilenet_v3_small", "swin", "vit"],
)
@pytest.mark.parametrize("form", ["float", "BW", "BWA", "packed"])
@pytest.mark.usefixtures("slow_path")
def test_macs_are_half_of_torchs_flops(build, shape, form):
    model, x = build(), torch.randn(shape)
    expected = flops(model, x)
    if form != "float":
        binarize(model, activations=None if form == "BW" else "poly")
    if form == "packed":
        model = pack_layers(model)
    result = summary(model, x)
    assert 2 * (result.binary_macs + result.mixed_macs + result.float_macs) == expected
    assert (result.binary_macs > 0) == (form in ("BWA", "packed"))
    assert form != "float" or result.mixed_macs == 0
    assert form != "BW" or result.mixed_macs > 0


def test_macs_by_hand():
    result = summary(binarize(net(), activations={"2": "poly"}), IMAGE)
    macs = {row.name: (row.binary_macs, row.mixed_macs, row.float_macs) for row in result.rows}
    assert macs == {
        "0": (0, 0, 2 * 8 * 5 * 5 * 3 * 9),
        "1": (0, 0, 0),
        "2": (2 * 6 * 3 * 3 * (8 // 2) * 9, 0, 0),
        "4": (0, 2 * 54 * 7, 0),
        "5": (0, 0, 2 * 7 * 5),
    }
    totals = result.binary_macs, result.mixed_macs, result.float_macs
    assert totals == tuple(map(sum, zip(*macs.values(), strict=True)))
    assert (
        f"multiply-adds  {totals[0]:,} of 1-bit weights × 1-bit inputs, {totals[1]:,} of 1-bit weights × float inputs, "
        f"{totals[2]:,} of float × float"
    ) in " ".join(str(result).split()).replace("multiply-adds ", "multiply-adds  ")


def test_multiply_adds_of_8_bits_or_of_raw_weights_are_not_called_float():
    rounded = pack_layers(binarize(nn.Sequential(*map(nn.Linear, (4, 4, 4), (4, 4, 4)))), remainder="int8")
    assert "16 of 1-bit weights × float inputs, 32 of other factors" in str(summary(rounded, torch.randn(1, 4)))
    experts = Experts()
    binarize_parameter(experts, "rows")
    assert "multiply-adds  96 of other factors" in str(summary(experts, torch.randn(2, 4)))


class Experts(nn.Module):
    """A module that multiplies by a bare parameter."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(12, 4))

    def forward(self, x):
        return x @ self.rows.T


def test_sizes_are_of_the_binary_layers_and_of_everything():
    result = summary(binarize(net()))
    floats, packed = (sum(getattr(row, f"{form}_bytes") for row in result.rows if row.weight_bits == 1)
                      for form in ("float", "packed"))  # fmt: skip
    assert f"binary layers  {floats:,} bytes float, {packed:,} packed: {floats / packed:.1f} times" in str(result)
    whole = result.float_bytes / result.packed_bytes
    assert f"{result.float_bytes:,} bytes float, {result.packed_bytes:,} packed: {whole:.1f} times" in str(result)


def test_tables_printed_one_after_the_other_stand_apart(capsys):
    model = binarize(net())
    print(model.binarization)
    print(summary(model))
    lines = [line.strip() for line in capsys.readouterr().out.split("\n")]
    (head,) = (number for number, line in enumerate(lines) if line.startswith("weight/in"))
    assert lines[head - 1] == ""


@pytest.mark.parametrize(
    ("model", "x", "macs"),
    [
        (nn.Linear(4, 3), torch.randn(4), 12),
        (nn.Linear(4, 3), torch.randn(2, 5, 4), 120),
        (nn.Linear(4, 3, bias=False), torch.randn(4), 12),
        (nn.Conv2d(2, 3, 3, padding=1), torch.randn(2, 4, 4), 3 * 16 * 18),
        (nn.LSTM(4, 3), torch.randn(5, 1, 4), 5 * 4 * 3 * (4 + 3)),
    ],
)
def test_macs_of_single_layers(model, x, macs):
    result = summary(model, x)
    assert (result.binary_macs, result.float_macs) == (0, macs)


def test_macs_of_attention_by_hand():
    """In evaluation too, where torch would take a fused operation that no formula knows."""
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(1, 5, 8)
    result = summary(model, (x, x, x))
    assert result.float_macs == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_padding_with_ones_counts_the_same():
    macs = {summary(binarize(net(), activations="poly", padding_value=v), IMAGE).binary_macs for v in (0, 1, -1)}
    assert len(macs) == 1


def test_bits_and_shapes():
    rows = {row.name: row for row in summary(binarize(net(), activations={"2": "poly"}), IMAGE).rows}
    bits = {name: (row.weight_bits, row.input_bits) for name, row in rows.items()}
    assert bits == {"0": (32, 32), "1": (32, 32), "2": (1, 1), "4": (1, 32), "5": (32, 32)}
    assert rows["2"].output_shape == (2, 6, 3, 3)
    assert rows["2"].kind == "BinaryConv2d"
    half = summary(net().half().to("meta"), IMAGE.half())
    assert {(row.weight_bits, row.input_bits) for row in half.rows} == {(16, 16)}


def test_layers_whose_forward_never_ran_are_named():
    class Taker(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return nn.functional.linear(x, self.inner.weight)

    model = binarize(nn.Sequential(nn.Linear(4, 4), Taker(), nn.Linear(4, 4)), activations="poly", keep=None)
    for form in (model, pack_layers(model)):
        result = summary(form, torch.randn(3, 4))
        assert result.uncalled == ("1.inner", "1.idle")
        assert "1.inner" in str(result).split("never called")[1]
        assert (result.binary_macs, result.float_macs) == (2 * 3 * 16, 3 * 16)
        assert {row.name: row.input_bits for row in result.rows}["1.inner"] == 32
    assert summary(model).uncalled is None


def test_without_example_operations_are_unknown():
    result = summary(binarize(net(), activations="poly"))
    assert result.binary_macs is None
    assert result.float_macs is None
    assert {row.output_shape for row in result.rows} == {None}
    assert "multiply" not in str(result)
    assert [row.input_bits for row in result.rows] == [32, 32, 1, 1, 32]


@pytest.mark.parametrize("mode", [True, False])
def test_a_binary_model_keeps_its_mode(mode):
    model = binarize(net()).train(mode)
    summary(model, IMAGE)
    assert {module.training for module in model.modules()} == {mode}


@pytest.mark.parametrize("name", MODELS)
def test_the_table_has_80_columns_and_a_line_for_each_row(name):
    model = MODELS[name]()
    example = {"net": IMAGE, "resnet18": torch.randn(1, 3, 64, 64), "swin": torch.randn(1, 3, 32, 32)}.get(name)
    result = summary(model, example)
    blank, *lines = str(result).split("\n")
    assert (blank, max(map(len, lines)) <= 80) == ("", True)
    assert lines.index("") == 3 + len(result.rows)
    assert f"{result.packed_bytes:,} packed" in str(result)
    assert pickle.loads(pickle.dumps(result)) == result


def test_rich_prints_whole_names():
    from rich.console import Console

    console = Console(width=160)
    result = summary(binarize(swin()))
    with console.capture() as capture:
        console.print(result)
    assert all(row.name in capture.get() for row in result.rows)
    assert f"{result.packed_bytes:,}" in capture.get()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_counts_as_its_parents():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    model = binarize(nn.Sequential(nn.Linear(4, 4), scripted, nn.Linear(4, 4)), keep=None)
    result = summary(model, torch.randn(2, 4))
    assert (result.mixed_macs, result.float_macs) == (2 * 2 * 16, 2 * 16)
    assert result.uncalled == ()


def test_a_model_without_parameters_is_summarised():
    result = summary(nn.ReLU(), torch.randn(2))
    assert (result.rows, result.packed_bytes, result.float_macs) == ((), 0, 0)
    assert "0 packed" in str(result)
