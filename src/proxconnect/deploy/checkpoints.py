"""Training checkpoints of any training loop: their tensors, and the tensors of a network among them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from proxconnect._support.paths import require_regular
from proxconnect._support.text import some
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.metadata import KEY
from proxconnect.layers import BinaryLayer

__all__ = ["Checkpoint", "CheckpointError", "Matched", "fill", "is_packed", "match", "read"]

FLOAT_NAMES = ((".latent", ".weight"), ("_binary.latent", ""))
"""The end of a latent weight's name, and the end of the float weight's: for a layer, and for a raw parameter."""

_ZIP = b"PK\x03\x04"
_LEAST_VISITED = 10_000
"""The values that a file may hold beyond one for each of its bytes; a value in several places counts in each."""


class CheckpointError(ValueError):
    """The error for a file that is no readable checkpoint, or is one of another network.

    The message names the file if its path is known.
    """


@dataclass(frozen=True)
class Checkpoint:
    """The tensors and the plain values of a checkpoint file, in two flat mappings.

    The keys of nested dicts and the indices of lists are joined by dots: a file of `{"model": {"fc.bias": t}}` has
    `tensors["model.fc.bias"]`.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    """All tensors, on the CPU."""
    values: Mapping[str, int | float | str]
    """All numbers, booleans and strings, such as `epoch` or `optimizer.param_groups.0.lr`."""


def read(path: Path) -> Checkpoint:
    """Read a file of `torch.save` or safetensors, without running any code in it.

    Returns:
        the tensors, real numbers and strings of the file. Where the format allows, tensors are mapped from the file
        into memory, so do not change the file while you use them.

    Raises:
        CheckpointError: if the file is damaged, no checkpoint, nested too deeply, or packed already; if it holds no
            tensor, objects that could run code, or a tensor that is sparse, quantized or on the meta device.
        OSError: if the file cannot be opened.
        TypeError: if `path` is no path.
    """
    path = require_regular(path)
    is_safetensors = _is_safetensors(path)
    try:
        if is_safetensors:
            with tensor_file.open_checked(path) as file:
                if KEY in (file.metadata() or {}):
                    raise ValueError(
                        "it is packed already: `proxconnect summary` shows it, pc.load(path, float_model) loads it"
                    )
                content: object = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        else:
            content = read_torch(path)
        # Forty nested lists that each hold the next twice are written once, but visiting them never ends.
        visited = _flattened(content, "")
        most = _LEAST_VISITED + path.stat().st_size
        found = {name: value for name, value in islice(visited, most) if value is not None}
        if next(visited, None) is not None:
            raise ValueError("what it holds is there too many times over: save the state dict alone")
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
    """Return True for a file of `pc.save`. CheckpointError for damaged safetensors, OSError if it cannot be opened."""
    path = require_regular(path)
    if not _is_safetensors(path):
        return False
    try:
        with tensor_file.open_checked(path) as file:
            return KEY in (file.metadata() or {})
    except ValueError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def read_torch(path: Path, *, mmap: bool = True) -> object:
    """Return the object that `torch.save` wrote, with its tensors on the CPU, without running any code in the file.

    With `mmap`, tensors are mapped from the file, except in the format of torch before 1.6. ValueError if the file is
    damaged, no file of `torch.save`, called .safetensors, or holds objects that could run code.
    """
    path = require_regular(path)
    if path.suffix == ".safetensors":  # torch would read it as one
        raise ValueError("it is no safetensors file, though it is called one: rename what torch wrote to .pt")
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


def _flattened(value: object, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and plain values in nested mappings and lists by dotted name, and None for all else."""
    if isinstance(value, Tensor | int | float | str):
        yield name, value
        return
    yield name, None
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield from _flattened(part, f"{name}.{key}" if name else str(key))


@dataclass(frozen=True)
class Matched:
    """A record of the tensors of one network in a checkpoint, which `match` makes."""

    prefix: str
    """The start of their names in the file, such as "model." or ""."""
    tensors: Mapping[str, Tensor]
    """All tensors of the file with that prefix, by the rest of their names."""

    @property
    def binary_layers(self) -> tuple[str, ...]:
        """The names, without the prefix, of the submodules with a tensor `latent` in the file, in its order."""
        return tuple(name.removesuffix(".latent") for name in self.tensors if name.endswith(".latent"))

    def has(self, layer: str, name: str) -> bool:
        """Return True if `tensors` has the tensor `name`, such as "bias", of the layer named `layer`."""
        return f"{layer}.{name}" in self.tensors


def match(checkpoint: Checkpoint, model: nn.Module, prefix: str | None = None) -> Matched:
    """Find the tensors of a network in a checkpoint, which may hold more, such as the state of an optimizer.

    Latent weights in the file match float weights of `model` too. `prefix` is the start of the network's names in the
    file, such as "model."; None takes the one with the most names of `model`.

    Raises:
        CheckpointError: if the file has no tensor of the network, or none under the given `prefix`; for None, if two
            prefixes tie for the most names.
    """
    names = set(model.state_dict())
    places = Counter(_places(checkpoint.tensors, names))
    if prefix is None:
        if not places:
            held = some([repr(name) for name in checkpoint.tensors])
            raise CheckpointError(f"{checkpoint.path} has no tensor of the network: it has {held}; the network has "
                                  f"{some([repr(name) for name in sorted(names)])}")  # fmt: skip
        most = max(places.values())
        prefix, *twins = (place for place, count in places.most_common() if count == most)
        if twins:
            both = " and ".join(repr(place) for place in [prefix, *twins])
            raise CheckpointError(f"{checkpoint.path} has the network under {both}: say which with --prefix")
    elif not places[prefix]:
        fitting = [repr(place) for place, _ in places.most_common(3)]
        raise CheckpointError(f"{checkpoint.path} has no tensor of the network under {prefix!r}"
                              f"{'; it has some under ' if fitting else ''}{', '.join(fitting)}")  # fmt: skip
    return Matched(
        prefix, {name.removeprefix(prefix): t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}
    )


def fill(model: nn.Module, matched: Matched, checkpoint: Checkpoint) -> None:
    """Load the tensors that `match` found in `checkpoint` into `model`, in place.

    The latent weights of a binary layer may come from a float `weight`. After an error, `model` may hold some tensors.

    Raises:
        CheckpointError: if a tensor is missing, unknown to `model`, of another shape, or has values that the model
            refuses. Only `num_batches_tracked` may be missing.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for owner, layer in model.named_modules(remove_duplicate=False):
        if isinstance(layer, BinaryLayer):
            shapes[f"{owner}.weight"] = layer.latent.shape  # as a float network calls it
    for name, tensor in matched.tensors.items():
        inside = shapes.get(name)
        if inside is not None and inside != tensor.shape:
            raise CheckpointError(
                f"{matched.prefix}{name} is of shape {tuple(tensor.shape)} in {checkpoint.path}, but "
                f"{tuple(inside)} in the network: name the architecture that was trained"
            )
    try:
        missing, left = model.load_state_dict(dict(matched.tensors), strict=False)
    except RuntimeError as error:  # a quantizer refuses a value
        raise CheckpointError(f"{checkpoint.path}: {' '.join(str(error).split())}") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # training alone needs it
    says = []
    if missing:
        near = get_close_matches(missing[0], left, n=1, cutoff=0.6)
        guess = f" (is {missing[0]!r} its {near[0]!r}?)" if near else ""
        says.append(f"it lacks {some([repr(name) for name in missing])}{guess}")
    if left:
        says.append(f"it has {some([repr(name) for name in left])}, which the network lacks")
    if says:
        raise CheckpointError(f"{checkpoint.path} is of another network: {', and '.join(says)}")


def _places(names: Iterable[str], wanted: set[str]) -> Iterable[str]:
    """Yield the prefix of each name that ends in one of the network's names."""
    for name in names:
        forms = [name, *(name.removesuffix(end) + instead for end, instead in FLOAT_NAMES if name.endswith(end))]
        for form in forms:
            parts = form.split(".")
            for start in range(len(parts)):
                rest = ".".join(parts[start:])
                if rest in wanted:
                    yield form[: len(form) - len(rest)]
