"""Training checkpoints for readers to fail on: zip archives and bare pickles as torch writes them, and safetensors."""

import io
import os
import pickle
import zipfile
from random import Random

import torch
from safetensors.torch import save

from fuzzing import packed_files
from fuzzing.changes import LARGEST, bytes_changed

PARTS = [
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\nbytearray\n", b"ccollections\nOrderedDict\n", b"R", b"o",
    b"i", b"\x85", b"\x86", b")", b"}", b"]", b"(", b"t", b"a", b"s", b"u", b"b", b"h\x00", b"q\x00", b"Q", b"0",
    b"2", b".", b"ctorch\nSize\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n",
    b"ctorch.nn.parameter\nParameter\n", b"ctorch\nTensor\n", b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n", b"J\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8a\x06\0\0\0\0\0\1", b"K\x00", b"G\x7f\xf0\0\0\0\0\0\0",
    b"X\xff\xff\xff\x7f", b"T\xff\xff\xff\x7f", b"(]q\x01h\x01a", b"(K\x01" + b"2" * 40, b"\x80\x02", b"N", b"\x88",
]  # fmt: skip
"""Operations of pickles, among them names that must never be looked up and sizes that must never be believed."""


class _Harmful:
    def __reduce__(self) -> object:
        return os.mkdir, ("made-by-a-file",)


def shared_lists(times: int) -> list[object]:
    """A list that holds itself thrice a level: small in a file, without end for whoever visits each element."""
    inner: list[object] = [1.0]
    for _ in range(times):
        inner = [inner, inner, inner]
    return inner


def seeds() -> list[bytes]:
    """State dicts in each form, a run's checkpoint, and pickles that would run code."""
    torch.manual_seed(0)
    state = {"first.latent": torch.randn(3, 2), "first.bias": torch.randn(3).half(), "n": torch.tensor(3)}
    run = {"state_dict": state, "global_step": 3, "optimizer_states": [{"param_groups": [{"lr": 0.1}]}], "name": "run"}
    contents = [state, run, {"model": state, "shared": shared_lists(3)}, [_Harmful(), state]]
    files = [_saved(content, zipped) for content in contents for zipped in (True, False)]
    return [*files, save(state), pickle.dumps({"a": 1}), pickle.dumps(_Harmful())]


def _saved(content: object, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def mutate(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Another file, mostly one whose archive is whole and whose pickle is not."""
    if data[8:9] == b"{":
        return packed_files.mutate(data, random, others)
    if not data.startswith(b"PK") or random.random() < 0.2:
        return _pickle_changed(data, random)[:LARGEST]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # an archive that was damaged before ends in an error of any kind
        return bytes_changed(data, random)
    return _zipped(_entries_changed(entries, random), random)[:LARGEST]


def _entries_changed(entries: list[tuple[str, bytes]], random: Random) -> list[tuple[str, bytes]]:
    if not entries:
        return [("archive/data.pkl", b"\x80\x02}.")]
    place = random.randrange(len(entries)) if random.random() < 0.3 else 0
    name, content = entries[place]
    changed = random.choice((
        *[[(name, _pickle_changed(content, random))]] * 2, [], [(name, content)] * 2,
        [(random.choice((name + "x", "data.pkl", "../x", "archive/data/99")), content)], [(name, b"")],
        [(name, content), ("archive/constants.pkl", content)], [(name, content[: random.randrange(len(content) + 1)])],
    ))  # fmt: skip
    return [*entries[:place], *changed, *entries[place + 1 :]]


def _pickle_changed(data: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        return bytes_changed(data, random)
    place = random.randrange(len(data) + 1)
    part = b"".join(random.choices(PARTS, k=random.choice((1, 2, 4))))
    return data[:place] + part + data[place + random.choice((0, 0, 1, len(part))) :]


def _zipped(entries: list[tuple[str, bytes]], random: Random) -> bytes:
    stream = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if random.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return stream.getvalue()
