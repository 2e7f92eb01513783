"""What a packed file or a checkpoint says by itself, without the code of its network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from proxconnect.deploy.checkpoints import Checkpoint
from proxconnect.deploy.packed import PackedFileError
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.deploy.packed.file.metadata import Metadata

_QUANTIZERS = ("weight_quantizer.mu", "weight_quantizer.alpha", "input_quantizer.mu")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "_orig_mod")
"""What a network is saved under, by training loops and by wrappers."""
_BITS = {"U8": 8, "I8": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64}


class Stored(NamedTuple):
    """A tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def entries(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """What they take."""
        return self.entries * _BITS.get(self.dtype, 8) // 8


@dataclass(frozen=True)
class PackedContents:
    """A packed file: its layers with their tensors, and the tensors of no layer."""

    path: Path
    size: int
    layers: Mapping[str, tuple[LayerSpec, list[Stored]]]
    remainder: list[Stored]
    aliases: int
    """Names for tensors that are stored under another."""


def packed_in(path: Path) -> PackedContents:
    """The layers of a packed file from its metadata and tensors; PackedFileError for one that is damaged."""
    try:
        with tensor_file.open_checked(path) as file:
            metadata = Metadata.of(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            tensors = [Stored(n, s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()]
    except ValueError as fault:
        raise PackedFileError(f"cannot read {path}: {fault}") from fault
    layers: dict[str, tuple[LayerSpec, list[Stored]]] = {name: (spec, []) for name, spec in metadata.layers.items()}
    rest: list[Stored] = []
    for tensor in tensors:
        owner = layers.get(tensor.name.rpartition(".")[0])
        (rest if owner is None else owner[1]).append(tensor)
    return PackedContents(path, path.stat().st_size, layers, rest, len(metadata.aliases))


def weight_bits(tensors: Iterable[Stored]) -> int | None:
    """Of one weight; None where its tensor is that of another layer."""
    found = {tensor.name.rpartition(".")[2]: tensor for tensor in tensors}
    if "bits" in found:
        return 1
    return _BITS.get(found["weight"].dtype, 8) if "weight" in found else None


@dataclass(frozen=True)
class Latent:
    """A binary layer of a checkpoint."""

    name: str
    shape: tuple[int, ...]
    mu: float | None
    input_mu: float | None
    """None where its inputs are float."""
    has_learned_scale: bool
    bytes: int


@dataclass(frozen=True)
class LatentContents:
    """The binary layers of a checkpoint, their μ, and what moves it, as far as the file says."""

    path: Path
    prefix: str
    """What stands before the names of the network, as far as networks are saved under it."""
    layers: list[Latent]
    float_tensors: int
    float_numbers: int
    others: int
    """Tensors that stand beside the network's."""
    schedule: Mapping[str, object]
    """What `Sharpening` and update rules keep in the optimizer."""


def latents_in(checkpoint: Checkpoint) -> LatentContents:
    """What the checkpoint holds; no layers where it is a float one."""
    latents = {n.removesuffix(".latent"): t for n, t in checkpoint.tensors.items() if n.endswith(".latent")}
    prefix = _common_prefix(latents) if latents else ""
    ours = {n: t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
    rest = [t for n, t in ours.items() if not n.endswith((".latent", *_QUANTIZERS))]
    return LatentContents(
        checkpoint.path, prefix, [_latent(checkpoint, name, prefix) for name in latents], len(rest),
        sum(tensor.numel() for tensor in rest), len(checkpoint.tensors) - len(ours), _of_the_schedule(checkpoint),
    )  # fmt: skip


def _latent(checkpoint: Checkpoint, name: str, prefix: str) -> Latent:
    latent = checkpoint.tensors[f"{name}.latent"]
    mu, alpha, input_mu = (checkpoint.tensors.get(f"{name}.{part}") for part in _QUANTIZERS)
    return Latent(
        name.removeprefix(prefix), tuple(latent.shape), _number(mu), _number(input_mu), alpha is not None, latent.nbytes
    )


def _common_prefix(names: Iterable[str]) -> str:
    """What all names begin with, as far as networks are saved under it."""
    by_depth = zip(*(name.split(".") for name in names), strict=False)
    shared = takewhile(lambda parts: len(set(parts)) == 1 and parts[0] in _WRAPPERS, by_depth)
    return "".join(f"{parts[0]}." for parts in shared)


def _number(tensor: Tensor | None) -> float | None:
    """NaN for what is no single number."""
    return None if tensor is None else float(tensor) if tensor.numel() == 1 else float("nan")


def _of_the_schedule(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        name.rpartition(".")[2]: value
        for name, value in checkpoint.values.items()
        if ".param_groups.0." in f".{name}" and name.rpartition(".")[2].startswith(("sharpening_", "update_rule"))
    }
