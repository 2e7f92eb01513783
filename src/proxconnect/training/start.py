"""The values that a run starts from: its own initialisation, a checkpoint, or phases before it."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from proxconnect.deploy.checkpoints import FLOAT_NAMES, Checkpoint, CheckpointError, Matched, fill, match, read

_QUANTIZERS = (".weight_quantizer.", ".input_quantizer.")
_OURS = "state_dict.network."  # in a file of `fit`; of the average of the weights if the run keeps one


@dataclass(frozen=True)
class Start:
    """The options for the starting values of a run's network; by default its own initialisation (E2E).

    Args:
        checkpoint: a `fit`, torch or safetensors file with values for the same layers, float or binary (FT). You cannot
            combine it with `float_epochs`.
        float_epochs: the number of epochs of a float phase. The run trains this phase first, and starts from its end.
        activation_epochs: the number of epochs of a phase with binary activations and float weights, after the float
            phase if there is one. It is the first step of two-step training (Martinez 2020, arXiv 2003.11535).

    Raises:
        ValueError: a number of epochs is negative, or both `checkpoint` and `float_epochs` are given.
    """

    checkpoint: Path | None = None
    float_epochs: int = 0
    activation_epochs: int = 0

    def __post_init__(self) -> None:
        if min(self.float_epochs, self.activation_epochs) < 0:
            raise ValueError("float_epochs and activation_epochs must not be negative")
        if self.checkpoint is not None and self.float_epochs:
            raise ValueError("a run starts from a checkpoint or from its own float phase: leave one of them out")


def load(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Load the checkpoint `path` into the float `network`, with latent weights as float weights, without μ and scales.

    Return its learned thresholds of binary inputs by name. CheckpointError if the file is absent or does not fit.
    """
    checkpoint, matched = _found(path, network)
    tensors = {name: t for name, t in matched.tensors.items() if not any(part in f".{name}" for part in _QUANTIZERS)}
    thresholds = {name: tensors.pop(name) for name in list(tensors) if ".input_shift." in name}
    for end, instead in FLOAT_NAMES:
        tensors = {name.removesuffix(end) + instead * name.endswith(end): t for name, t in tensors.items()}
    fill(network, Matched(matched.prefix, tensors), checkpoint)
    return thresholds


def load_float(path: Path, network: nn.Module) -> None:
    """Load the checkpoint `path` into the float `network`; CheckpointError if it is absent, binary or does not fit."""
    if _found(path, network)[1].binary_layers:  # whose latents alone answer differently
        raise CheckpointError(f"{path} is of a binary network: a teacher is a float one, the last.ckpt of a run with "
                              "--model.binary null; name it by model.teacher.checkpoint")  # fmt: skip
    load(path, network)


def _found(path: Path, network: nn.Module) -> tuple[Checkpoint, Matched]:
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: give the file that a run wrote, as runs/float/last.ckpt")
    checkpoint = read(path)
    is_ours = any(name.startswith(_OURS) for name in checkpoint.tensors)
    return checkpoint, match(checkpoint, network, _OURS if is_ours else None)
