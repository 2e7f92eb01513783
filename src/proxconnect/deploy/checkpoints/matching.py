"""Match the tensors of a checkpoint with those of a network, and load them into it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from proxconnect._support.text import some
from proxconnect.deploy.checkpoints.reading import Checkpoint, CheckpointError
from proxconnect.layers import BinaryLayer

_LATENT = ".latent"
FLOAT_NAMES = ((".latent", ".weight"), ("_binary.latent", ""))
"""The end of a latent weight's name, and the end of the float weight's: for a layer, and for a raw parameter."""


@dataclass(frozen=True)
class Matched:
    """The tensors of one network in a checkpoint."""

    prefix: str
    """The prefix of their names in the file."""
    tensors: Mapping[str, Tensor]
    """By their names in the network."""

    @property
    def binary_layers(self) -> tuple[str, ...]:
        """The qualified names of the layers with latent weights."""
        return tuple(name.removesuffix(_LATENT) for name in self.tensors if name.endswith(_LATENT))

    def has(self, layer: str, name: str) -> bool:
        """Return True if the checkpoint has that tensor of a layer."""
        return f"{layer}.{name}" in self.tensors


def match(checkpoint: Checkpoint, model: nn.Module, prefix: str | None = None) -> Matched:
    """Find the tensors of `model`, a float or binary network, in a checkpoint.

    Args:
        checkpoint: the file.
        model: the network that was trained, with any weights.
        prefix: the prefix of its names in the file, or None to find it.

    Raises:
        CheckpointError: if no tensor of the network is there, or if the network is there twice.
    """
    names = set(model.state_dict())
    places = Counter(_places(checkpoint.tensors, names))
    if prefix is None:
        prefix = _most_fitting(checkpoint, places, names)
    elif not places[prefix]:
        fitting = [repr(place) for place, _ in places.most_common(3)]
        raise CheckpointError(f"{checkpoint.path} has no tensor of the network under {prefix!r}"
                              f"{'; it has some under ' if fitting else ''}{', '.join(fitting)}")  # fmt: skip
    return Matched(
        prefix, {name.removeprefix(prefix): t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}
    )


def fill(model: nn.Module, matched: Matched, checkpoint: Checkpoint) -> None:
    """Load the tensors into `model`; CheckpointError names missing tensors, extra ones, and those of another shape."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name, tensor in matched.tensors.items():
        inside = shapes.get(name, shapes.get(_binary_name(name, model)))
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


def _most_fitting(checkpoint: Checkpoint, places: Counter[str], names: set[str]) -> str:
    if not places:
        held = some([repr(name) for name in checkpoint.tensors])
        raise CheckpointError(f"{checkpoint.path} has no tensor of the network: it has {held}; the network has "
                              f"{some([repr(name) for name in sorted(names)])}")  # fmt: skip
    (first, most), *others = places.most_common()
    twins = [place for place, count in others if count == most]
    if twins:
        both = " and ".join(repr(place) for place in [first, *twins])
        raise CheckpointError(f"{checkpoint.path} has the network under {both}: say which with --prefix")
    return first


def _binary_name(name: str, model: nn.Module) -> str:
    """Return the name in `model` of the tensor that a float network calls `name`."""
    owner, _, own = name.rpartition(".")
    try:
        is_binary = own == "weight" and isinstance(model.get_submodule(owner), BinaryLayer)
    except AttributeError:
        return name
    return f"{owner}{_LATENT}" if is_binary and owner else name
