"""Read training checkpoints: files of tensors from torch or safetensors, nested in any way."""

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
"""The values that a file may hold beyond one for each of its bytes; a value in several places counts in each."""

Plain = int | float | str


class CheckpointError(ValueError):
    """A file that is no checkpoint, or that holds more than tensors and plain values; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file, by dotted names: `{"model": {"fc.bias": t}}` has `model.fc.bias`."""

    path: Path
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Plain]
    """The numbers and strings, such as `epoch` or `optimizer.param_groups.0.lr`."""


def read(path: Path) -> Checkpoint:
    """Read a file of `torch.save` or safetensors, without running any code in it. The tensors are mapped.

    Raises:
        CheckpointError: for a pickle of objects, a packed file or a damaged file.
        OSError: if there is no file to read.
    """
    is_safetensors = _is_safetensors(path)
    try:
        content = _read_safetensors(path) if is_safetensors else read_torch(path)
        found = _found(content, path.stat().st_size)
        for name, value in found.items():
            if isinstance(value, Tensor) and (value.layout is not torch.strided or value.is_meta or value.is_quantized):
                raise ValueError(f"tensor {name!r} is sparse, quantized or without values: save it as a plain tensor")
    except RecursionError:
        raise CheckpointError(f"cannot read {path}: what it holds is nested too deeply, or holds itself") from None
    except ValueError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"cannot read {path}: it holds no tensor: save model.state_dict(), or a dict with it in")
    return Checkpoint(path, tensors, {name: value for name, value in found.items() if not isinstance(value, Tensor)})


def is_packed(path: Path) -> bool:
    """Return True for a file that `pc.save` wrote; CheckpointError if it is damaged, OSError if there is none."""
    if not _is_safetensors(path):
        return False
    try:
        with tensor_file.open_checked(path) as file:
            return KEY in (file.metadata() or {})
    except ValueError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def read_torch(path: Path, *, mmap: bool = True) -> object:
    """Read a file of `torch.save` to the CPU, without running any code in it.

    Args:
        path: the file, which may be of the zip format or of the older one.
        mmap: whether to map the tensors of a zip file instead of copying them.

    Raises:
        ValueError: for any other file. The message does not name the path.
    """
    if path.suffix == ".safetensors":  # torch would read it as one
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
    except Exception as error:  # a damaged file may raise anything in torch
        said = str(error).splitlines()
        raise ValueError(f"it is no checkpoint of torch, or damaged ({said[0] if said else error!r})") from error


def _is_safetensors(path: Path) -> bool:
    require_regular(path)
    with path.open("rb") as file:
        start = file.read(9)
    return not start.startswith(_ZIP) and start[8:9] == b"{"


def _require_stored(path: Path) -> None:
    """Raise ValueError for an archive whose parts exceed its size: compressed ones, or one inside another."""
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


def _found(content: object, size: int) -> dict[str, Any]:
    """Return the tensors and plain values of a file of `size` bytes; ValueError if lists hold others repeatedly.

    Such a list is written once and visited each time: forty nested lists that each hold the next twice never end.
    """
    visited = _flattened(content, "")
    found = {name: value for name, value in islice(visited, _LEAST_VISITED + size) if value is not None}
    if next(visited, None) is not None:
        raise ValueError("what it holds is there too many times over: save the state dict alone")
    return found


def _flattened(value: object, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and plain values in nested mappings and lists by dotted name, and None for all else."""
    if isinstance(value, Tensor | int | float | str):
        yield name, value
        return
    yield name, None
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield from _flattened(part, f"{name}.{key}" if name else str(key))
