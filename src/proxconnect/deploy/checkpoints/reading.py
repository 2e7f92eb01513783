"""Training checkpoints: files of tensors, from torch or safetensors, however they are nested."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from proxconnect._support.regular_files import require_regular
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.metadata import KEY

_ZIP = b"PK\x03\x04"
_LEAST_VISITED = 10_000
"""Values that a file may hold beyond one for each of its bytes, since one may be held in several places."""

Plain = int | float | str


class CheckpointError(ValueError):
    """A file that is no checkpoint, or that holds more than tensors and plain values; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, by dotted names: `{"model": {"fc.bias": t}}` has `model.fc.bias`."""

    path: Path
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Plain]
    """Numbers and strings beside them, as `epoch` or `optimizer.param_groups.0.lr`."""


def read(path: Path) -> Checkpoint:
    """What `torch.save` or safetensors wrote, its tensors mapped rather than copied.

    No code of the file runs: CheckpointError for pickles of objects, for packed files and for damaged ones. OSError
    where there is no file to read.
    """
    require_regular(path)
    with path.open("rb") as file:
        is_torch = not _is_safetensors(file.read(9))
    try:
        content = read_torch(path) if is_torch else _read_safetensors(path)
        found = _found(content, path.stat().st_size)
        _require_plain(found)
    except RecursionError:
        raise CheckpointError(f"cannot read {path}: what it holds is nested too deeply, or holds itself") from None
    except ValueError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"cannot read {path}: it holds no tensor: save model.state_dict(), or a dict with it in")
    return Checkpoint(path, tensors, {name: value for name, value in found.items() if not isinstance(value, Tensor)})


def is_packed(path: Path) -> bool:
    """Whether the file is one that `pc.save` wrote; OSError where there is no file to read."""
    require_regular(path)
    with path.open("rb") as file:
        if not _is_safetensors(file.read(9)):
            return False
    try:
        with tensor_file.open_checked(path) as file:
            return KEY in (file.metadata() or {})
    except ValueError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _is_safetensors(start: bytes) -> bool:
    return not start.startswith(_ZIP) and start[8:9] == b"{"


def read_torch(path: Path, *, mmap: bool = True) -> object:
    """What `torch.save` wrote, mapped or copied, on the CPU; ValueError, without the path, for all else.

    No code of the file runs.
    """
    if path.suffix == ".safetensors":  # which torch takes for one
        raise ValueError("it is no safetensors file, though it is called one: rename what torch wrote to .pt")
    require_regular(path)
    with path.open("rb") as file:
        is_zip = file.read(4) == _ZIP
    if is_zip:
        _require_stored(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip and mmap)
    except UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" such as {named[1]}," if named else ""
        raise ValueError(
            f"it is no checkpoint, or it holds objects beside tensors,{what} which could run code and are not read: "
            "save the state dict alone, torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # whatever a damaged file makes of torch
        said = str(error).splitlines()
        raise ValueError(f"it is no checkpoint of torch, or damaged ({said[0] if said else error!r})") from error


def _require_stored(path: Path) -> None:
    """ValueError for an archive whose parts are larger than it is: compressed, or one within another."""
    try:
        with ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    except (BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no checkpoint of torch, or damaged ({error})") from error
    if unpacked > path.stat().st_size:
        raise ValueError(
            f"its archive says that it holds {unpacked} bytes, more than it has: torch writes no such file"
        )


def _read_safetensors(path: Path) -> object:
    with tensor_file.open_checked(path) as file:
        if KEY in (file.metadata() or {}):
            raise ValueError(
                "it is packed already: `proxconnect summary` shows it, pc.load(path, float_model) loads it"
            )
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping


def _require_plain(found: Mapping[str, Any]) -> None:
    """ValueError for tensors whose entries do not lie in memory one by one."""
    for name, value in found.items():
        if isinstance(value, Tensor) and (value.layout is not torch.strided or value.is_meta or value.is_quantized):
            raise ValueError(f"tensor {name!r} is sparse, quantized or without values: save it as a plain tensor")


def _found(content: object, size: int) -> dict[str, Any]:
    """The tensors and plain values that a file of so many bytes holds; ValueError where lists hold others repeatedly.

    A list in itself is written once, and visited as often as it is held: doubled by each of forty, without end.
    """
    visited = _flattened(content, "")
    found = {name: value for name, value in islice(visited, _LEAST_VISITED + size) if value is not None}
    if next(visited, None) is not None:
        raise ValueError("what it holds is there too many times over: save the state dict alone")
    return found


def _flattened(value: object, name: str) -> Iterator[tuple[str, Any]]:
    """The tensors and plain values in mappings and lists, each by the keys on the way to it; None for these."""
    if isinstance(value, Tensor | int | float | str):
        yield name, value
        return
    yield name, None
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flattened(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _flattened(part, f"{name}.{number}" if name else str(number))
