"""Damaged, foreign and newer files are refused, with an error that explains the fault."""

import json
import pickle
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_nets import MLP, Shared, binary_mlp, binary_shared
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from safetensors.torch import save as safetensors_bytes
from torch import nn

import proxconnect as pc
from fuzzing.packed_files import resealed
from proxconnect.deploy.packed import PackedFileError, load_layers, pack_layers, save
from proxconnect.layers import BinaryConv2d


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "model.safetensors"


@pytest.fixture(scope="module")
def whole(path: Path) -> bytes:
    """The bytes of a file of an MLP with weights of 35 and 21 entries."""
    torch.manual_seed(0)
    save(pack_layers(binary_mlp()), path)
    return path.read_bytes()


def refused(path: Path, data: bytes, words: str = "", model: nn.Module | None = None) -> None:
    path.write_bytes(data)
    with pytest.raises(PackedFileError, match=rf"model\.safetensors: .*{words}"):
        load_layers(path, model or MLP())


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: dict[str, Any], tensors: bytes) -> bytes:
    """Write a file with a matching checksum, to reach the checks after it."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return resealed(len(text).to_bytes(8, "little") + text + tensors)


def with_metadata(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    header, tensors = parts(data)
    metadata = json.loads(header["__metadata__"]["proxconnect"])
    change(metadata)
    header["__metadata__"]["proxconnect"] = json.dumps(metadata)
    return joined(header, tensors)


def with_bytes(data: bytes, name: str, change: Callable[[bytearray], None]) -> bytes:
    header, tensors = parts(data)
    start, end = header[name]["data_offsets"]
    part = bytearray(tensors[start:end])
    change(part)
    return joined(header, tensors[:start] + bytes(part) + tensors[end:])


def test_the_tools_of_these_tests_change_nothing_by_themselves(path: Path, whole: bytes) -> None:
    path.write_bytes(with_bytes(with_metadata(whole, lambda metadata: None), "first.bits", lambda part: None))
    assert isinstance(load_layers(path, MLP()), MLP)


@given(cut=st.floats(0, 1, exclude_max=True))
def test_truncated_anywhere(path: Path, whole: bytes, cut: float) -> None:
    size = int(cut * len(whole))
    refused(path, whole[:size], "is (truncated|empty)")


def test_truncated_at_the_edges(path: Path, whole: bytes) -> None:
    header = 8 + int.from_bytes(whole[:8], "little")
    for size in (1, 7, 8, 9, header - 1, header, header + 1, len(whole) - 1):
        refused(path, whole[:size], "is truncated")
    refused(path, b"", "is empty")
    refused(path, whole + b"\0", "is damaged")


def architecture() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 3))


@pytest.fixture(scope="module")
def varied(path: Path) -> bytes:
    """The bytes of a file with thresholds, accumulators and an 8-bit layer."""
    torch.manual_seed(0)
    binary = pc.binarize(architecture(), "bnn++", "poly", keep=["2"], accumulator=pc.Accumulator(bits=3))
    save(pack_layers(pc.add_thresholds(binary).eval(), remainder="int8"), path)
    assert all(part in path.read_bytes() for part in (b"0.input_shift.shift", b'"bits\\":3', b"2.levels"))
    return path.read_bytes()


def test_a_damaged_header_never_gives_another_model(path: Path, varied: bytes) -> None:
    """Every changed byte is refused, and every changed bit up to the checksum, even if it has no meaning."""
    for place in range(len(varied)):
        for bit in range(8) if place < 64 else (place % 8,):
            damaged = bytearray(varied)
            damaged[place] ^= 1 << bit
            refused(path, bytes(damaged), model=architecture())


@pytest.mark.parametrize(("old", "new"), [(b'bits\\":3', b'bits\\":4'), (b'version\\":3', b'version\\":2')])
def test_damage_that_the_checksum_alone_finds(path: Path, varied: bytes, old: bytes, new: bytes) -> None:
    """With its own checksum the changed file is valid: it has a wider accumulator, or an older version."""
    x = torch.randn(64, 6)
    path.write_bytes(varied)
    expected = load_layers(path, architecture())(x)
    damaged = varied.replace(old, new, 1)
    refused(path, damaged, "its checksum does not match", architecture())
    path.write_bytes(resealed(damaged))
    assert torch.equal(load_layers(path, architecture())(x), expected) == (b"version" in old)


def test_a_copy_by_another_program_is_refused(path: Path, whole: bytes) -> None:
    """The library of safetensors reads the file, but writes its bytes in a different order, so the checksum differs."""
    path.write_bytes(whole)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    assert all(torch.equal(value, tensors[name]) for name, value in load_layers(path, MLP()).state_dict().items())
    save_file(tensors, path, metadata)
    refused(path, path.read_bytes(), r"its checksum does not match.*pc\.save if another program rewrote")
    save_file(tensors, path, {"proxconnect": metadata["proxconnect"]})
    refused(path, path.read_bytes(), r"its checksum is missing.*pc\.save if another program rewrote")


OLD = b64decode(
    "uAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJwcm94Y29ubmVjdCI6IntcInZlcnNpb25cIjoyLFwibGF5ZXJzXCI6e1wiMFwiOntc"
    "InR5cGVcIjpcImxpbmVhclwiLFwic2hhcGVcIjpbMiw1XSxcImJpbmFyeV9pbnB1dFwiOnRydWUsXCJhY2N1bXVsYXRvclwiOntc"
    "ImJpdHNcIjozLFwib3ZlcmZsb3dcIjpcIndyYXBcIixcInNsb3BlXCI6Mi4wfX19LFwiYWxpYXNlc1wiOnt9LFwidmVjdG9yc1wi"
    "OlwiZmxvYXQzMlwifSJ9LCIwLmJpYXMiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlswLDhdfSwi"
    "MC5zY2FsZSI6eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpbMl0sImRhdGFfb2Zmc2V0cyI6WzgsMTZdfSwiMC5iaXRzIjp7ImR0eXBl"
    "IjoiVTgiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlsxNiwxOF19fSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAAA"
    "gD4AAIC/AACAPwAAAD/tAw=="
)
"""A file of version 2, as it was written before files had a checksum."""


@pytest.mark.parametrize("version", [1, 2])
def test_old_files_are_read(path: Path, version: int) -> None:
    """A linear layer whose sums wrap in three bits: 5 and -5 become -3 and 3, while 1 and -1 stay."""

    def as_version_1(metadata: dict[str, Any]) -> None:
        metadata["version"] = 1
        del metadata["vectors"]

    path.write_bytes(OLD if version == 2 else with_metadata(OLD, as_version_1))
    loaded = load_layers(path, nn.Sequential(nn.Linear(5, 2)))
    answers = loaded(torch.tensor([[1.0, 1, 1, 1, 1], [-1, 1, -1, -1, 1]]))
    assert answers.tolist() == [[1.25, -2.5], [3.25, -1.5]]


@pytest.mark.parametrize(("name", "used"), [("first.bits", 35 % 8), ("last.bits", 21 % 8)])
def test_pad_bits(path: Path, whole: bytes, name: str, used: int) -> None:
    def flip(bit: int) -> bytes:
        def change(part: bytearray) -> None:
            part[-1] ^= 1 << bit

        return with_bytes(whole, name, change)

    for bit in range(used, 8):
        refused(path, flip(bit), f"layer '{name[:-5]}' is damaged: the bits after the last weight are not 0")
    path.write_bytes(flip(used - 1))  # the last weight itself
    assert isinstance(load_layers(path, MLP()), MLP)


@pytest.mark.parametrize("value", [-float("inf"), float("inf"), float("nan")])
def test_scales(path: Path, whole: bytes, value: float) -> None:
    def change(part: bytearray) -> None:
        part[4:8] = torch.tensor([value]).view(torch.uint8).numpy().tobytes()

    refused(path, with_bytes(whole, "first.scale", change), "layer 'first' is damaged: a scale is infinite or NaN")


GEOMETRY = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "padding_mode": "zeros",
            "output_padding": None}  # fmt: skip

WRONG_ENTRIES = [
    ("type", "conv9d", "unknown type 'conv9d'"),
    ("type", 3, "type must be a string"),
    ("type", "conv2d", "a Conv2d in the file, but a Linear"),
    ("shape", [7, 6], "shape"),
    ("shape", [35], "shape"),
    ("shape", "7", "shape must be"),
    ("shape", [7, 5.0], "shape must be"),
    ("shape", [True, 5], "shape must be"),
    ("shape", [-7, -5], "shape must be"),
    ("shape", [10**30, 5], "shape"),
    ("scale", "row", "scale must be"),
    ("scale", "tensor", "'first.scale' is F32 of shape"),
    ("scale", None, "'first.scale', which the model lacks"),
    ("dtype", "float8", "dtype must be one of"),
    ("dtype", ["float32"], "dtype must be one of"),
    ("dtype", "float64", "float64 in the file"),
    ("binary_input", 1, "binary_input must be"),
    ("binary_input", "false", "binary_input must be"),
    ("padding_value", 1, "cannot pad with 1"),
    ("padding_value", 2, "padding_value must be"),
    ("padding_value", False, "padding_value must be"),
    ("padding_value", 0.0, "padding_value must be"),
    ("geometry", 3, "geometry must be null or an object with the keys stride, padding"),
    ("geometry", {}, "geometry must be null or"),
    ("geometry", [], "geometry must be null or"),
    ("geometry", False, "geometry must be null or"),
    ("geometry", GEOMETRY, "stride must be a list of integers, one for each of 0 dimensions"),
    (
        "geometry",
        GEOMETRY | {"stride": [], "padding": [], "dilation": []},
        "'first' has a geometry in the file, but is",
    ),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG_ENTRIES)
def test_entries_of_layers(path: Path, whole: bytes, key: str, value: object, words: str) -> None:
    refused(path, with_metadata(whole, lambda m: m["layers"]["first"].update({key: value})), words)
    if key in ("type", "shape"):
        refused(path, with_metadata(whole, lambda m: m["layers"]["first"].pop(key)), "must be an object with the keys")
    refused(path, with_metadata(whole, lambda m: m["layers"]["first"].update(more=1)), "an object with the keys")


PAIRS_OF_NONE = [1, [1], [1, 1, 1], [1.0, 1], [True, 1], [1, "1"], "11", {"0": 1, "1": 1}, None, [[1, 1], 1]]
WRONG_GEOMETRIES = [
    *(
        ("stride", value, "stride must be a list of integers, one for each of 2")
        for value in [*PAIRS_OF_NONE, [0, 1], "same"]
    ),
    *(
        ("dilation", value, "dilation must be a list of integers, one for each of 2")
        for value in [*PAIRS_OF_NONE, [1, -1]]
    ),
    *(("padding", value, "padding must be") for value in [*PAIRS_OF_NONE, [0, -1], "full", ["same"]]),
    *(("groups", value, "groups must be") for value in (0, -1, True, 1.0, "1", None, [1])),
    *(("padding_mode", value, "padding_mode must be") for value in ("constant", 0, None, ["zeros"], "Zeros")),
    ("stride", [10**30, 1], "has stride"),
    *(("output_padding", value, "output_padding must be null or a list") for value in [*PAIRS_OF_NONE[:8], [0, -1]]),
    ("output_padding", [0, 0], "has output_padding"),
    ("padding", "valid", "has padding 'valid' in the file, but"),
    ("kernel", [1, 1], "geometry must be null or"),
]


@pytest.fixture(scope="module")
def whole_convolution(path: Path) -> bytes:
    save(pack_layers(nn.Sequential(BinaryConv2d(2, 3, 3))), path)
    return path.read_bytes()


@pytest.mark.parametrize(("key", "value", "words"), WRONG_GEOMETRIES)
def test_geometries(path: Path, whole_convolution: bytes, key: str, value: object, words: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    change = with_metadata(whole_convolution, lambda m: m["layers"]["0"]["geometry"].update({key: value}))
    refused(path, change, f"layer '0' .*{words}", model)


@pytest.mark.parametrize("key", GEOMETRY)
def test_incomplete_geometries(path: Path, whole_convolution: bytes, key: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    change = with_metadata(whole_convolution, lambda m: m["layers"]["0"]["geometry"].pop(key))
    refused(path, change, "'0' is wrong: geometry must be null or an object with the keys", model)
    change = with_metadata(whole_convolution, lambda m: m["layers"]["0"].update({"geometry": None}))
    refused(path, change, "'0' has no geometry in the file, but is a conv2d", model)


WRONG_METADATA: list[tuple[dict[str, Any], str]] = [
    ({"version": 4}, "newer proxconnect.*upgrade"),
    ({"version": 0}, "no valid version"),
    ({"version": True}, "no valid version"),
    ({"version": "1"}, "no valid version"),
    ({"version": None}, "no valid version"),
    ({"layers": {}}, "names no layers"),
    ({"layers": []}, "names no layers"),
    ({"layers": {"first": 3}}, "'first' is wrong: must be an object"),
    ({"aliases": []}, "aliases"),
    ({"aliases": {"a": 1}}, "aliases"),
    ({"aliases": {"again.bits": "first.bits"}}, "'again.bits', which the model lacks"),
    ({"aliases": {"again.bits": "nothing.bits"}}, "alias 'again.bits' of 'nothing.bits' is not"),
    ({"aliases": {"first.bits": "last.bits"}}, "alias 'first.bits' of 'last.bits' is not"),
    ({"aliases": {"a": "b", "b": "a"}}, "alias 'a' of 'b' is not"),
    ({"aliases": {"a": "a"}}, "alias 'a' of 'a' is not"),
    ({"more": 1}, "must have the keys"),
    *(({"vectors": value}, "vectors in its metadata") for value in ("float64", None, 16, ["float16"])),
]


@pytest.mark.parametrize(("change", "words"), WRONG_METADATA)
def test_metadata(path: Path, whole: bytes, change: dict[str, Any], words: str) -> None:
    refused(path, with_metadata(whole, lambda metadata: metadata.update(change)), words)


@pytest.mark.parametrize("key", ["version", "layers", "aliases", "vectors"])
def test_missing_metadata(path: Path, whole: bytes, key: str) -> None:
    refused(path, with_metadata(whole, lambda metadata: metadata.pop(key)), "metadata")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1, "version": 1}', "[" * 100_000, "1" * 10_000])
def test_metadata_that_is_no_object(path: Path, whole: bytes, text: str) -> None:
    header, tensors = parts(whole)
    header["__metadata__"]["proxconnect"] = text
    refused(path, joined(header, tensors), "metadata")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(content=JSON, key=st.sampled_from(["version", "layers", "aliases"]))
def test_any_metadata(path: Path, whole: bytes, content: object, key: str) -> None:
    change = with_metadata(whole, lambda metadata: metadata.update({key: content}))
    harmless = content == {} if key == "aliases" else key == "version" and type(content) is int and 1 <= content <= 3
    if not harmless:
        refused(path, change)


def test_renamed_layers_and_tensors(path: Path, whole: bytes) -> None:
    def rename(metadata: dict[str, Any]) -> None:
        metadata["layers"]["other"] = metadata["layers"].pop("first")

    refused(path, with_metadata(whole, rename), "it has a layer 'other', which the model lacks")
    refused(path, with_metadata(whole, lambda m: m["layers"].pop("first")), "it lacks 'first.weight', and it has")
    header, tensors = parts(whole)
    header["strange"] = header.pop("first.bits")
    refused(path, joined(header, tensors), "it lacks 'first.bits', and it has 'strange'")


def test_other_shapes_and_dtypes(path: Path, whole: bytes) -> None:
    for name, change, words in [
        ("first.bits", {"dtype": "I8"}, r"'first.bits' is I8 of shape \(5,\)"),
        ("first.bits", {"shape": [5, 1]}, r"'first.bits' is U8 of shape \(5, 1\)"),
        ("norm.weight", {"dtype": "I32"}, "'norm.weight' is I32"),
        ("first.scale", {"shape": [7, 1]}, "must be F32 of shape"),
        ("first.scale", {"data_offsets": [0, 4]}, "damaged"),
    ]:
        header, tensors = parts(whole)
        header[name].update(change)
        refused(path, joined(header, tensors), words)


def test_padding_that_the_architecture_does_not_have(path: Path) -> None:
    save(pack_layers(nn.Sequential(BinaryConv2d(2, 3, 3, padding=1, activations="bnn", padding_value=1))), path)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"))
    refused(path, path.read_bytes(), "'0' has padding_mode 'zeros' in the file, but 'circular' in the model", model)
    circular = {"padding_mode": "circular"}
    change = with_metadata(path.read_bytes(), lambda m: m["layers"]["0"]["geometry"].update(circular))
    refused(path, change, "'0' cannot pad with 1", model)


def test_sharing(path: Path) -> None:
    save(pack_layers(binary_shared()[1]), path)
    whole = path.read_bytes()
    change = with_metadata(whole, lambda m: m["layers"]["again"].update({"padding_value": 0}))
    refused(path, change, "'again' is shared in the model, but not in the file", Shared())
    change = with_metadata(whole, lambda m: m["aliases"].pop("output.weight"))
    refused(path, change, "it lacks 'output.weight'", Shared())


def test_foreign_files(path: Path, whole: bytes) -> None:
    torch.save(MLP().state_dict(), path)
    refused(path, path.read_bytes(), "zip archive, as torch.save writes")
    torch.save(MLP().state_dict(), path, _use_new_zipfile_serialization=False)
    refused(path, path.read_bytes(), "Python pickle")
    refused(path, pickle.dumps({"a": 1}), "Python pickle")
    refused(path, safetensors_bytes({"weight": torch.ones(2)}), r"no packed model: .*pc.save\(pc.pack\(model\), path\)")
    refused(path, b"\x89PNG\r\n\x1a\n" + b"0" * 100, "no safetensors file")
    refused(path, json.dumps({"a": 1}).encode() * 9, "no safetensors file")
    refused(path, (2**60).to_bytes(8, "little") + b"{}", "no safetensors file")
    refused(path, (4).to_bytes(8, "little") + b"{{{{", "damaged")


@given(data=st.binary(max_size=200))
def test_random_bytes(path: Path, data: bytes) -> None:
    refused(path, data)


def test_a_missing_file_is_the_system_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_layers(tmp_path / "nothing", MLP())
    with pytest.raises(IsADirectoryError):
        load_layers(tmp_path, MLP())
