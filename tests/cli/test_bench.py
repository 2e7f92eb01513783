"""`proxconnect bench`: text, JSON, picture, and one line for each error of a user."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

import proxconnect
from proxconnect import kernels
from proxconnect._support.installation import pip_install
from proxconnect.cli.bench.rivals import RIVALS, Rival
from proxconnect.cli.command import main
from proxconnect.cli.networks import network
from proxconnect.cli.verbs.bench import _EXAMPLES
from proxconnect.conversion.convert import ONE_SIGN

THEIRS = """
import torch
from torch import nn

print("noise of their module")


class Signed(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("offset", torch.ones(8, 1, 1), persistent=False)

    def forward(self, x):
        return x - self.offset


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), Signed(), nn.Flatten(), nn.Linear(288, 5)
    )


def deep():
    middle = [m for _ in range(22) for m in (nn.Linear(8, 8), nn.BatchNorm1d(8))]
    return nn.Sequential(nn.Linear(4, 8), *middle, nn.Linear(8, 2))


def attending():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.Sequential(nn.Linear(4, 16), nn.TransformerEncoder(layer, 1), nn.Linear(16, 4))


net.example = torch.randn(2, 3, 8, 8)
attending.example = (torch.randn(1, 6, 4),)
deep.example = [1]


def writing():
    import transformers

    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=64,
    ))


writing.example = {"input_ids": torch.randint(50, (1, 8))}


def takes(width):
    return nn.Linear(width, 2)


def wrong():
    return 3


def raising():
    return undefined


def folded():
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def rectified():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))


built = nn.Linear(2, 2)
"""


@pytest.fixture
def theirs(folder):
    (folder / "theirs.py").write_text(THEIRS)
    return folder


@pytest.fixture
def without_engines(monkeypatch):
    """Leave out other engines; another test runs them."""
    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", ())


@pytest.fixture
def quick_engines(monkeypatch):
    """Replace all engines by fast ones of the same names."""

    def prepare(task):
        return lambda: [task.model(*task.inputs).numpy()]

    engines = tuple(Rival(rival.name, ("torch",), prepare) for rival in RIVALS)
    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", engines)


@pytest.fixture
def without_memory(monkeypatch):
    """Start no processes that measure memory."""
    monkeypatch.setattr("proxconnect.cli.bench.peak_memory.peaks", lambda *_: "it was not asked")


def measured(capsys, *arguments: str) -> dict:
    assert main(["bench", *arguments, "--rounds", "2", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def is_spread(value) -> bool:
    return set(value) == {"low", "median", "high"} and 0 < value["low"] <= value["median"] <= value["high"]


@pytest.mark.usefixtures("without_memory")
def test_engines_stand_beside_ours(theirs, capsys):
    found = measured(capsys, "theirs:net", "--mode", "BWA", "--threads", "1", "--batch", "2")
    engines = [network for network in found["networks"] if network["name"] not in ("float", "packed")]
    assert {engine["name"] for engine in engines} | set(found["absent"]) >= {rival.name for rival in RIVALS}
    assert not [why for why in found["absent"].values() if "Error:" in why]
    assert all(is_spread(engine["latency"]) and is_spread(engine["speedup"]) for engine in engines)


@pytest.mark.usefixtures("without_engines", "without_memory")
def test_a_network_that_cannot_learn_is_measured_and_named(theirs, capsys):
    arguments = ["theirs:rectified", "--input", "32", "4", "--mode", "BWA", "--batch", "1"]
    assert measured(capsys, *arguments)["one_signed"] == ["2"]
    main(["bench", *arguments, "--rounds", "2"])
    printed = capsys.readouterr().out
    assert "The binary input of 2 has one sign only, as after a ReLU." in printed
    assert "cannot learn from such inputs" in printed


def test_help_suggests_networks_that_learn():
    suggested = re.findall(r"bench (\w+) .*--mode BWA", _EXAMPLES)
    assert len(suggested) == 2
    for name in suggested:
        subject = network(name)
        model = subject.build()
        plan = proxconnect.plan(model, activations="poly", example=subject.input_of(None, model))
        assert not [row.name for row in plan.rows if row.reason == ONE_SIGN]


@pytest.mark.usefixtures("without_engines")
def test_json_has_everything(theirs, capsys, monkeypatch):
    memory = {"float": 3000, "packed": 2000}
    monkeypatch.setattr("proxconnect.cli.bench.peak_memory.peaks", lambda *_: memory)
    found = measured(capsys, "theirs:net", "--mode", "BWA", "--threads", "1", "--batch", "1", "2")
    assert (found["model"], found["mode"], found["weights"], found["keep"]) == ("theirs:net", "BWA", "bnn++", ["edges"])
    assert found["input_shapes"] == [[2, 3, 8, 8]]
    assert (found["binary_layers"], found["weight_layers"]) == (1, 3)
    assert found["machine"]["threads"] == 1
    assert found["machine"]["instruction_set"] == (kernels.instruction_sets() or (None,))[-1]
    float_one, packed = (next(n for n in found["networks"] if n["name"] == name) for name in ("float", "packed"))
    for one in (float_one, packed):
        assert is_spread(one["latency"])
        assert is_spread(one["speedup"])
        assert set(one["throughput"]) == {"1", "2"}
        assert one["throughput"]["2"] == pytest.approx(2 / one["latency"]["median"])
        assert 0 < one["file"] < 100_000
        assert one["peak_memory"] == memory[one["name"]]
    assert float_one["speedup"]["median"] == 1
    assert packed["largest_difference"] <= 1e-4 * found["largest_answer"]
    assert 0 < found["binary_share_of_time"] < 1
    assert found["generation"] is None
    assert {part["name"] for part in found["profile"]} >= {"", "0", "5"}
    assert all(part["calls"] == 1 and is_spread(part["seconds"]) for part in found["profile"])
    (layer,) = found["layers"]
    assert layer["shapes"] == [[8, 8, 3, 3]]
    assert layer["macs"] == 2 * 8 * 8 * 9 * 36
    assert (layer["float_bytes"], layer["packed_bytes"]) == (4 * 576, 576 // 8 + 4 * 8)
    assert (layer["members"], layer["calls"], layer["input_bits"]) == (["2"], 1, [1])
    assert found["float_bytes"] == proxconnect.summary(network("theirs:net").build()).float_bytes
    assert all(is_spread(layer[name]) for name in ("float_seconds", "packed_seconds", "speedup"))


@pytest.mark.usefixtures("without_engines", "without_memory")
def test_float_inputs_may_be_rounded(theirs, capsys):
    found = measured(capsys, "theirs:attending", "--inputs", "int8", "--batch", "1")
    assert (found["mode"], found["inputs"]) == ("BW", "int8")
    (packed,) = (network for network in found["networks"] if network["name"] == "packed")
    assert (packed["largest_difference"] > 1e-5) == kernels.is_built()


@pytest.mark.usefixtures("without_engines", "without_memory")
def test_pack_is_told_what_the_command_is(theirs, capsys, monkeypatch):
    told: list[dict] = []
    pack = proxconnect.pack

    def recording(model, *, inputs, remainder, vectors, floats):
        told.append({"inputs": inputs, "remainder": remainder, "vectors": vectors, "floats": floats})
        return pack(model, inputs=inputs)

    monkeypatch.setattr("proxconnect.pack", recording)
    found = measured(
        capsys, "theirs:net", "--remainder", "int8", "--vectors", "float16", "--floats", "fast", "--batch", "1"
    )
    assert told == [{"inputs": "exact", "remainder": "int8", "vectors": "float16", "floats": "fast"}]
    assert {name: found[name] for name in told[0]} == told[0]


@pytest.mark.usefixtures("without_engines", "without_memory")
def test_shapes_on_the_command_line_come_first(theirs, capsys):
    found = measured(capsys, "theirs:net", "--input", "1", "3", "8", "8", "--batch", "1", "--keep")
    assert found["input_shapes"] == [[1, 3, 8, 8]]
    assert found["keep"] == []
    assert [layer["name"] for layer in found["layers"]] == ["0", "2", "5"]


@pytest.mark.usefixtures("without_engines", "without_memory")
def test_an_attention_is_one_layer_with_its_projections(theirs, capsys):
    found = measured(capsys, "theirs:attending", "--mode", "BWA", "--batch", "1")
    assert found["binary_layers"] == 4
    attention = found["layers"][0]
    assert (attention["name"], attention["kind"]) == ("1.layers.0.self_attn", "MultiheadAttention")
    assert [member.rpartition(".")[2] for member in attention["members"]] == ["out_proj", "in_proj_weight_binary"]
    assert attention["calls"] == 1


@pytest.mark.usefixtures("without_engines", "without_memory")
def test_a_language_model_writes(theirs, capsys):
    arguments = ["theirs:writing", "--prompt", "6", "--tokens", "3", "--batch", "1"]
    found = measured(capsys, *arguments, "--group-size", "32", "--embeddings", "--keep", "lm_head")
    assert (found["group_size"], found["embeddings"]) == (32, True)
    for layer, rows in zip(found["layers"], (50, 64), strict=False):  # of the embedding, and of a projection
        assert layer["packed_bytes"] == rows * 64 // 8 + 4 * rows * 2  # signs, and two scales for each row
    assert (found["input_shapes"], found["binary_layers"], found["weight_layers"]) == ([[1, 8]], 15, 16)
    writing = found["generation"]
    assert (writing["prompt"], writing["tokens"]) == (6, 3)
    assert [writer["name"] for writer in writing["writers"]] == ["float", "packed", "packed, inputs int8"]
    assert writing["llama_cpp"] is None
    assert "divide" in found["absent"]["llama.cpp"] or "pip install" in found["absent"]["llama.cpp"]
    for writer in writing["writers"]:
        assert all(is_spread(writer[name]) for name in ("first_token", "first_speedup", "rate", "rate_speedup"))


def test_the_named_language_model_needs_transformers(capsys, absent):
    absent("transformers")
    assert main(["bench", "small_llama"]) == 2
    assert pip_install("huggingface") in capsys.readouterr().err


@pytest.mark.usefixtures("quick_engines", "without_memory")
def test_long_networks_fit_80_columns(theirs, capsys):
    arguments = ["theirs:deep", "--input", "2", "4", "--mode", "BWAA", "--rounds", "2", "--plot", "picture.svg"]
    assert main(["bench", *arguments, "--profile", "--batch", "1", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("22 of 24 layers binary") for line in lines)
    assert any(line.startswith("and 2 more") for line in lines)
    assert any(line.startswith("part of the packed network") for line in lines)
    assert any("% of the packed network's time" in line for line in lines)
    assert ElementTree.parse(theirs / "picture.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet81"], "near names are 'resnet18'"),
        (["bireal_resnet81"], "near names are 'bireal_resnet18'"),
        (["resnet18.no_such_weights"], "'resnet18.no_such_weights' cannot be built"),
        (["resnet18", "--weights", "bnm++"], "did you mean 'bnn++'"),
        (["resnet18", "--plot", "picture.pdf"], "ends in .png or .svg"),
        (["resnet18", "--plot", "nowhere/picture.png"], "its directory must exist and be writable"),
        (["theirs:folded"], "with --input, as --input 1 3 224 224"),
        (["theirs:folded", "--input", "1", "4"], "no layer would become binary: keep fewer, as --keep alone does"),
        (["theirs:net", "--input", "1", "4", "8", "8"], "theirs:net does not take 1×4×8×8 (RuntimeError"),
        (["theirs:net", "--input", "1", "0"], "a positive whole number is needed"),
        (["theirs:net", "--keep", "tail"], "the pattern 'tail' fits no layer"),
        (["theirs:net", "--threads", "1000000"], "more than the"),
        (["theirs:writing"], "theirs:writing has 64 positions: --prompt 128 and --tokens 32 are more together"),
        (["small_lama"], "small_llama and llama_1b write text, and one of your own is MODULE:CALLABLE"),
        (["theirs:mesh"], "has no 'mesh'"),
        (["theirs:takes"], "must be callable without arguments: missing a required argument: 'width'"),
        (["theirs:wrong"], "must return a float nn.Module; it returned int"),
        (["theirs:raising"], "raised NameError: name 'undefined' is not defined"),
        (["theirs:built"], "is of type Linear: name a callable"),
        (["theirs:deep"], "deep.example must be a tensor"),
    ],
)
def test_errors_of_a_user_are_one_line(theirs, capsys, arguments, message):
    assert main(["bench", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.replace("noise of their module\n", "").count("\n") == 1


def test_a_missing_extra_is_one_line_with_its_installation(capsys, monkeypatch):
    from proxconnect._support import extras

    def require(module: str, extra: str):
        raise extras.MissingExtraError(f"{module} is not installed; run: pip install 'proxconnect[{extra}]'")

    monkeypatch.setattr(extras, "require", require)
    assert main(["bench", "resnet18"]) == 2
    assert "pip install 'proxconnect[bench]'" in capsys.readouterr().err
