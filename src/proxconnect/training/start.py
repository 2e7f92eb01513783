"""The values that a run starts from: its own initialisation, a checkpoint, or phases before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from proxconnect.deploy.checkpoints import FLOAT_NAMES, Checkpoint, CheckpointError, Matched, fill, match, read

_QUANTIZERS = (".weight_quantizer.", ".input_quantizer.")
_THRESHOLDS = ".input_shift."
_OURS = "state_dict.network."
"""The prefix of the network in a file of `fit`, or of the average of its weights if the run keeps one."""


@dataclass(frozen=True)
class Start:
    """Where the values of the network come from; by default from its initialisation (E2E).

    Args:
        checkpoint: a file of `fit`, torch or safetensors with the values of the same layers, float or binary (FT).
        float_epochs: epochs of a float phase of the same run, from whose end this one starts.
        activation_epochs: epochs of a phase with binary activations and float weights, after the float one if there is
            one: the first of two steps (Martinez 2020, arXiv 2003.11535).
    """

    checkpoint: Path | None = None
    float_epochs: int = 0
    activation_epochs: int = 0

    def __post_init__(self) -> None:
        if min(self.float_epochs, self.activation_epochs) < 0:
            raise ValueError("float_epochs and activation_epochs must not be negative")
        if self.checkpoint is not None and self.float_epochs:
            raise ValueError("a run starts from a checkpoint or from its own float phase: leave one of them out")

    @property
    def has_phases(self) -> bool:
        """Whether other runs come before."""
        return self.float_epochs > 0 or self.activation_epochs > 0


def load(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Fill the float `network` from the file at `path`, with latents as its weights.

    μ and learned scales are left out, since they belong to the pairs of the other run. Learned thresholds of binary
    inputs are returned, for `take_thresholds`. CheckpointError if there is no such file, or its tensors do not fit.
    """
    checkpoint, matched = _found(path, network)
    tensors = {name: t for name, t in matched.tensors.items() if not any(part in f".{name}" for part in _QUANTIZERS)}
    thresholds = {name: tensors.pop(name) for name in list(tensors) if _THRESHOLDS in name}
    fill(network, Matched(matched.prefix, {_float_name(name): t for name, t in tensors.items()}), checkpoint)
    return thresholds


def load_float(path: Path, network: nn.Module) -> None:
    """Fill the float `network` as `load` does; CheckpointError for the file of a binary network too."""
    if _found(path, network)[1].binary_layers:  # whose latents alone answer differently
        raise CheckpointError(f"{path} is of a binary network: a teacher is a float one, the last.ckpt of a run with "
                              "--model.binary null; name it by model.teacher.checkpoint")  # fmt: skip
    load(path, network)


def take_thresholds(network: nn.Module, thresholds: Mapping[str, Tensor]) -> None:
    """Give the binary `network` those learned thresholds that it has a place for."""
    state = network.state_dict()
    network.load_state_dict(state | {name: t for name, t in thresholds.items() if name in state})


def _found(path: Path, network: nn.Module) -> tuple[Checkpoint, Matched]:
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: give the file that a run wrote, as runs/float/last.ckpt")
    checkpoint = read(path)
    is_ours = any(name.startswith(_OURS) for name in checkpoint.tensors)
    return checkpoint, match(checkpoint, network, _OURS if is_ours else None)


def _float_name(name: str) -> str:
    return next((name.removesuffix(end) + instead for end, instead in FLOAT_NAMES if name.endswith(end)), name)
