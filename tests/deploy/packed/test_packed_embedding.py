"""Packed embeddings look up the rows of the hard ones; tied layers share their bits in memory and in the file."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from fuzzing.packed_files import resealed
from proxconnect.deploy.packed.layers.forms import PackedEmbedding
from proxconnect.layers import BinaryEmbedding

ROWS = 11
SHARINGS = {"row": {}, "groups": {"group_size": 4}, "learned": {"scale": "learned"}, "one": {"scale": "tensor"},
            "none": {"scale": None}, "learned groups": {"scale": "learned", "group_size": 4}}  # fmt: skip
INDICES = (torch.tensor(3), torch.tensor([[0, 10, 3], [3, 5, 5]]), torch.zeros(0, 2, dtype=torch.long),
           torch.tensor([7], dtype=torch.int32))  # fmt: skip


class Language(nn.Module):
    """An embedding and a head, tied or not, around a layer."""

    def __init__(self, dim: int = 16, tied: bool = True, device: Any = None) -> None:
        super().__init__()
        self.words = nn.Embedding(ROWS, dim, padding_idx=0, device=device)
        self.body = nn.Linear(dim, dim, device=device)
        self.head = nn.Linear(dim, ROWS, device=device)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.body(self.words(ids)))


def binary(floats: nn.Module, **options: Any) -> Any:
    model = pc.binarize(floats, "bc", keep=None, embeddings=True, **options)
    for name, parameter in model.named_parameters():
        if name.endswith("alpha"):
            nn.init.uniform_(parameter, 0.5, 2)
    return model.eval()


@pytest.mark.covering
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("dim", [16, 12, 8])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_are_those_of_the_hard_embedding_to_the_bit(sharing: str, dim: int, dtype: Any, tmp_path: Path) -> None:
    layer = BinaryEmbedding(ROWS, dim, dtype=dtype, **SHARINGS[sharing]).eval()
    packed = pc.pack(layer)
    pc.save(packed, tmp_path / "net")
    loaded = pc.load(tmp_path / "net", nn.Embedding(ROWS, dim, dtype=dtype, device="meta"))
    for network in (packed, loaded):
        assert type(network) is PackedEmbedding
        for indices in INDICES:
            answer = network(indices)
            assert answer.dtype == dtype
            assert torch.equal(answer, layer(indices))
        for index in (-1, ROWS):
            with pytest.raises(IndexError):
                network(torch.tensor([index]))


@pytest.mark.parametrize("dim", [16, 12])
@pytest.mark.parametrize("vectors", ["float32", "float16"])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_tied_layers_share_their_bits_wherever_they_go(sharing: str, vectors: Any, dim: int, tmp_path: Path) -> None:
    model, ids = binary(Language(dim), **SHARINGS[sharing]), INDICES[1]
    packed = pc.pack(model, vectors=vectors)
    pc.save(packed, tmp_path / "net")
    loaded = pc.load(tmp_path / "net", Language(dim, device="meta"))
    pc.save(loaded, tmp_path / "again")
    assert (tmp_path / "net").read_bytes() == (tmp_path / "again").read_bytes()
    untied = pc.pack(binary(Language(dim, tied=False), **SHARINGS[sharing]), vectors=vectors)
    saved = untied.head.bits.nbytes + (0 if SHARINGS[sharing].get("scale", "") is None else untied.head.scale.nbytes)
    for network in (packed, loaded, copy.deepcopy(packed)):
        assert network.head.bits is network.words.bits
        assert network.head.scale is network.words.scale or SHARINGS[sharing].get("scale", "") is None
        numbers, apart = pc.summary(network), pc.summary(untied)
        assert numbers.binary_parameters == ROWS * dim + dim * dim == apart.binary_parameters - ROWS * dim
        assert numbers.parameters == apart.parameters - ROWS * dim
        assert vectors == "float16" or numbers.packed_bytes == apart.packed_bytes - saved
    if vectors == "float32":
        torch.testing.assert_close(packed(ids), model(ids))
    assert torch.equal(loaded(ids), packed(ids))
    assert pc.summary(model).binary_parameters == ROWS * dim + dim * dim
    floats = Language(dim)
    floats.load_state_dict(pc.hard_state_dict(loaded), strict=True)
    torch.testing.assert_close(floats(ids), loaded(ids))


def test_a_file_by_the_book(tmp_path: Path) -> None:
    """Read with numpy, as docs/file-format.md says."""
    model = binary(Language(), group_size=4)
    pc.save(pc.pack(model), tmp_path / "net")
    data = (tmp_path / "net").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["proxconnect"])
    assert metadata["layers"]["words"] == {"type": "embedding", "shape": [ROWS, 16], "group_size": 4}
    held = {name for name in header if name.endswith((".bits", ".scale"))}
    assert held == {"words.bits", "words.scale", "body.bits", "body.scale"}
    assert metadata["aliases"] == {"head.bits": "words.bits", "head.scale": "words.scale"}
    tensors = {name: data[8 + length + start : 8 + length + end] for name, entry in header.items()
               if name != "__metadata__" for start, end in [entry["data_offsets"]]}  # fmt: skip
    signs = np.unpackbits(np.frombuffer(tensors["words.bits"], "u1"), bitorder="little").reshape(ROWS, 4, 4) * 2.0 - 1
    scales = np.frombuffer(tensors["words.scale"], "<f4").reshape(ROWS, 4, 1)
    assert np.array_equal((signs * scales).reshape(ROWS, 16), model.words.binary_weight.double().numpy())


def test_tensors_move_and_load_like_those_of_other_layers() -> None:
    packed = pc.pack(binary(Language()))
    state = packed.state_dict()
    assert state["head.bits"].data_ptr() == state["words.bits"].data_ptr()
    other = pc.pack(binary(Language()))
    other.load_state_dict(state)
    assert torch.equal(other(INDICES[1]), packed(INDICES[1]))
    assert packed.to(torch.float64)(INDICES[1]).dtype == torch.float64
    with pytest.raises(TypeError, match="read-only"):
        packed.words.weight = torch.zeros(ROWS, 16)


def test_torch_exports_and_compiles_it() -> None:
    packed = pc.pack(binary(Language())).words
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(packed, (INDICES[1],), dynamic_shapes=({0: dynamic, 1: dynamic},)).module()
    compiled = torch.compile(packed, backend="eager", fullgraph=True)
    ids = torch.randint(ROWS, (3, 4))
    assert torch.equal(program(ids), packed(ids))
    assert torch.equal(compiled(ids), packed(ids))


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A function that changes the metadata of a file, in the same length."""

    def write(path: Path) -> None:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        metadata = json.loads(header["__metadata__"]["proxconnect"])
        change(metadata)
        header["__metadata__"]["proxconnect"] = json.dumps(metadata, separators=(",", ":"))
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % 64)
        path.write_bytes(resealed(len(text).to_bytes(8, "little") + text + data[8 + length :]))

    return write


REFUSED: dict[str, tuple[Callable[[Path], None], Callable[[], nn.Module], str]] = {
    "untied shapes": (lambda path: None, lambda: Language(24), "'words' has a weight of shape"),
    "no embedding": (
        changed(lambda m: m["layers"]["words"].update(type="linear")), Language,
        "'words' is a Linear in the file, but an Embedding in the model",
    ),
    "no head": (
        changed(lambda m: m["layers"]["head"].update(type="embedding")), Language, "'head' is an Embedding in the file",
    ),
    "binary input": (
        changed(lambda m: m["layers"]["words"].update(binary_input=True)), Language,
        "'words' has a binary input in the file, but is an embedding",
    ),
    "another scale": (
        changed(lambda m: m["layers"]["head"].update(scale="tensor")), Language, r"'head.scale' is F32 of shape",
    ),
    "no tie": (
        changed(lambda m: m["aliases"].clear()), Language, "it lacks 'head.bits', 'head.scale'",
    ),
    "max norm": (
        lambda path: None, lambda: with_norm(Language()), "'words' has packed weights in the file and a max_norm",
    ),
}  # fmt: skip


def with_norm(model: Any) -> nn.Module:
    model.words.max_norm = 1.0
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_another_model_and_a_changed_file_are_refused(case: str, tmp_path: Path) -> None:
    change, make, words = REFUSED[case]
    pc.save(pc.pack(binary(Language())), tmp_path / "net")
    change(tmp_path / "net")
    with pytest.raises(pc.PackedFileError, match=words):
        pc.load(tmp_path / "net", make())


def test_a_row_costs_as_little_as_it_is_long(tmp_path: Path) -> None:
    """The file of an embedding is 1 bit for an entry and 2 bytes for a row."""
    layer = BinaryEmbedding(1000, 1024).eval()
    pc.save(pc.pack(layer, vectors="float16"), tmp_path / "net")
    assert 0 < os.path.getsize(tmp_path / "net") - (1000 * 128 + 2000) < 1000
