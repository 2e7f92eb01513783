"""Packing, files and exports used wrongly: what is said, each time."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from refusals import Wrong, is_refused
from safetensors.torch import save_file
from subjects import SAVED, binary, images, net, packed, rows, saved, sgd
from torch import nn

import proxconnect as pc
from proxconnect import export
from proxconnect._support import extras
from proxconnect.deploy import checkpoints
from proxconnect.training import data

NOT_UTF8 = "net\udcff.safetensors"
RENAME = "its name is not valid UTF-8: rename it"
TAKES = "takes an nn.Module as model; got "
EXAMPLE = "It must be what the model takes: a tensor, a tuple of positional arguments"


def diverged() -> nn.Module:
    model = binary()
    nn.init.constant_(model[2].latent, torch.nan)
    return model


def file(content: bytes) -> str:
    Path("wrong.safetensors").write_bytes(content)
    return "wrong.safetensors"


def of_torch() -> str:
    torch.save(net().state_dict(), "network.pt")
    return "network.pt"


def of_safetensors() -> str:
    save_file(net().state_dict(), "plain.safetensors")
    return "plain.safetensors"


def half_of_it() -> str:
    content = Path(saved()).read_bytes()
    return file(content[: len(content) // 2])


def without_bias() -> nn.Module:
    model = net()
    model[2] = nn.Linear(16, 16, bias=False)
    return model


WRONG = {
    "pack: a float model": Wrong(lambda: pc.pack(net()), ValueError, "call pc.binarize(model) and train it first"),
    "pack: a packed model": Wrong(lambda: pc.pack(packed()), ValueError, "write it with pc.save(model, path)"),
    "pack: a path": Wrong(lambda: pc.pack("model.pt"), TypeError, f"pack(model) {TAKES}str"),
    "pack: a state dict": Wrong(lambda: pc.pack(binary().state_dict()), TypeError, f"pack(model) {TAKES}OrderedDict"),
    "pack: the example second": Wrong(lambda: pc.pack(binary(), rows()), TypeError, "takes 1 positional argument"),
    "pack: unknown inputs": Wrong(lambda: pc.pack(binary(), inputs="int4"), ValueError, "must be 'exact' or 'int8'"),
    "pack: unknown remainder": Wrong(lambda: pc.pack(binary(), remainder="int4"), ValueError, "'float' or 'int8'"),
    "pack: a dtype as vectors": Wrong(
        lambda: pc.pack(binary(), vectors=torch.float16), ValueError, "vectors must be 'float32' or 'float16'"
    ),
    "pack: diverged": Wrong(lambda: pc.pack(diverged()), ValueError, "go back to a checkpoint before it diverged"),
    "pack: on meta": Wrong(lambda: pc.pack(binary().to("meta")), ValueError, "load the checkpoint first"),
    "pack: in DataParallel": Wrong(lambda: pc.pack(nn.DataParallel(binary())), ValueError, "pc.pack(model.module)"),
    "pack: example of another width": Wrong(lambda: pc.pack(binary(), example=rows(9)), RuntimeError, EXAMPLE),
    "pack: example of numpy": Wrong(lambda: pc.pack(binary(), example=rows().numpy()), TypeError, EXAMPLE),
    "pack: an empty example": Wrong(
        lambda: pc.pack(binary(), example=rows(count=0)), ValueError, "proves nothing: give at least one input"
    ),
    "packed: trained on": Wrong(
        lambda: pc.Sharpening(sgd(packed()), packed(), steps=5), ValueError, "has no binary layer"
    ),
    "save: a float model": Wrong(lambda: pc.save(net(), SAVED), ValueError, "pc.save(pc.pack(model), path)"),
    "save: a binary model": Wrong(lambda: pc.save(binary(), SAVED), ValueError, "pc.save(pc.pack(model), path)"),
    "save: the path first": Wrong(lambda: pc.save(SAVED, packed()), TypeError, f"save(model, path) {TAKES}str"),
    "save: no such folder": Wrong(
        lambda: pc.save(packed(), f"no/such/{SAVED}"), FileNotFoundError, "its directory must exist and be writable"
    ),
    "save: a folder": Wrong(lambda: pc.save(packed(), "."), IsADirectoryError, "give the name of a file in it"),
    "save: no path": Wrong(lambda: pc.save(packed(), None), TypeError, "path takes the name of a file, as"),
    "load: no such file": Wrong(lambda: pc.load("absent", net()), FileNotFoundError, "'absent'"),
    "load: the model first": Wrong(lambda: pc.load(net(), saved()), TypeError, f"load(path, float_model) {TAKES}str"),
    "load: no model": Wrong(lambda: pc.load(saved()), TypeError, "'float_model'"),
    "load: a class": Wrong(lambda: pc.load(saved(), nn.Sequential), TypeError, f"{TAKES}type"),
    "load: a function": Wrong(lambda: pc.load(saved(), net), TypeError, f"{TAKES}function"),
    "load: into a binary model": Wrong(
        lambda: pc.load(saved(), binary()), pc.PackedFileError, "as it was before binarize()"
    ),
    "load: into a packed model": Wrong(
        lambda: pc.load(saved(), packed()), pc.PackedFileError, "as it was before binarize()"
    ),
    "load: another architecture": Wrong(
        lambda: pc.load(saved(), images()), pc.PackedFileError, "pass the architecture that was packed"
    ),
    "load: without a bias": Wrong(
        lambda: pc.load(saved(), without_bias()), pc.PackedFileError, "it has '2.bias', which the model lacks"
    ),
    "load: another dtype": Wrong(lambda: pc.load(saved(), net().half()), pc.PackedFileError, "model.to(torch.float32)"),
    "load: of torch.save": Wrong(lambda: pc.load(of_torch(), net()), pc.PackedFileError, "pc.save(pc.pack(model), pa"),
    "load: of safetensors": Wrong(
        lambda: pc.load(of_safetensors(), net()), pc.PackedFileError, "it is a safetensors file, but no packed model"
    ),
    "load: a text": Wrong(lambda: pc.load(file(b"hello, world!"), net()), pc.PackedFileError, "no safetensors file"),
    "load: an empty file": Wrong(lambda: pc.load(file(b""), net()), pc.PackedFileError, "it is empty: save the packed"),
    "load: half a file": Wrong(lambda: pc.load(half_of_it(), net()), pc.PackedFileError, "copy or save it again"),
    "load: unknown inputs": Wrong(lambda: pc.load(saved(), net(), inputs="int4"), ValueError, "'exact' or 'int8'"),
    "load_state_dict: float into packed": Wrong(
        lambda: packed().load_state_dict(net().state_dict()), RuntimeError, 'Unexpected key(s) in state_dict'
    ),
    "hard state dict: a float model": Wrong(
        lambda: pc.hard_state_dict(net()), ValueError, "call pc.binarize(model) and train it first"
    ),
    "hard state dict: a state dict": Wrong(
        lambda: pc.hard_state_dict(binary().state_dict()), TypeError, f"{TAKES}OrderedDict"
    ),
    "export: None": Wrong(lambda: export.to_onnx(None, rows(), "a.onnx"), TypeError, f"{TAKES}NoneType"),
    "export: a binary model": Wrong(
        lambda: export.to_onnx(binary(), rows(), "a.onnx"), ValueError, "export pc.pack(model)"
    ),
    "export: floats of a float model": Wrong(
        lambda: export.to_floats(net(), "a.safetensors"), ValueError, "call pc.binarize(model) and train it first"
    ),
    "export: floats to no folder": Wrong(
        lambda: export.to_floats(packed(), "no/a.safetensors"), FileNotFoundError, "its directory must exist"
    ),
    "extra: absent": Wrong(
        lambda: extras.require("no_such_package", "train"), extras.MissingExtraError, "not installed; run: pip install "
    ),
    "checkpoint: an open file": Wrong(lambda: checkpoints.read(BytesIO()), TypeError, "name of a file, as"),
    "checkpoint: an open file, packed?": Wrong(lambda: checkpoints.is_packed(BytesIO()), TypeError, "; got BytesIO"),
    "checkpoint: an open file of torch": Wrong(lambda: checkpoints.read_torch(BytesIO()), TypeError, "; got BytesIO"),
    "name: not UTF-8, to save": Wrong(lambda: pc.save(packed(), NOT_UTF8), OSError, RENAME),
    "name: not UTF-8, to load": Wrong(lambda: pc.load(NOT_UTF8, net()), OSError, RENAME),
    "name: not UTF-8, a checkpoint": Wrong(lambda: checkpoints.read(Path(NOT_UTF8)), OSError, RENAME),
    "data: an open file": Wrong(
        lambda: data.load("fashion-mnist", BytesIO()), TypeError, "root takes the name of a folder; got BytesIO"
    ),
    "data: an open file of IDX": Wrong(lambda: data.read_idx(BytesIO()), TypeError, "; got BytesIO"),
    "data: unknown": Wrong(lambda: data.load("mnist"), data.DatasetError, "known are 'digits' and 'fashion-mnist'"),
    "data: nowhere": Wrong(
        lambda: data.load("fashion-mnist", "nowhere"), data.DatasetError, "Give their folder as root"
    ),
    "data: no IDX file": Wrong(lambda: data.read_idx(Path(file(b"xx"))), data.DatasetError, "it starts with 78 78"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_use_of_files_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    is_refused(WRONG[name])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weights": "bnn-"}, ValueError, "are names of pairs"),
        ({"accumulator": 8}, ValueError, "accumulator of a configuration has bits, derivative, overflow, slope; got 8"),
        ({"weight": "bnn"}, ValueError, "knows no weight"),
        ({"group_size": 0}, ValueError, "group_size must be at least 1"),
    ],
    ids=["unknown pair", "bits alone", "misspelt keyword", "no inputs"],
)
def test_a_wrong_configuration_of_transformers_is_refused(options, error, words):
    huggingface = pytest.importorskip("proxconnect.huggingface")
    is_refused(Wrong(lambda: huggingface.ProxConnectConfig(**options), error, words))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [(BytesIO(), TypeError, "takes the name of a folder; got BytesIO"), (NOT_UTF8, OSError, RENAME)],
    ids=["an open file", "not UTF-8"],
)
def test_a_wrong_folder_of_the_hub_is_refused(name, error, words):
    huggingface = pytest.importorskip("proxconnect.huggingface")
    is_refused(Wrong(lambda: huggingface.from_pretrained(name, net()), error, words))
    card = {"title": "t", "pair": "bnn", "architecture": "net()"}
    is_refused(Wrong(lambda: huggingface.save_pretrained(packed(), name, **card), error, words))
