"""Whether a checkpoint is of the network that is to go on from it."""

from collections.abc import Mapping
from difflib import get_close_matches

from torch import Tensor

from proxconnect._support.text import some
from proxconnect.deploy.checkpoints import CheckpointError


def require_same_network(saved: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> None:
    """CheckpointError that names the tensors which one has and the other lacks, or whose shapes differ."""
    lacking = [name for name in here if name not in saved]
    left = [name for name in saved if name not in here]
    reshaped = [name for name in here if name in saved and saved[name].shape != here[name].shape]
    says = []
    if lacking:
        near = get_close_matches(lacking[0], left, n=1, cutoff=0.6)
        says.append(f"it lacks {some(lacking)}" + (f" (is {lacking[0]!r} its {near[0]!r}?)" if near else ""))
    if left:
        says.append(f"it has {some(left)}, which the network lacks")
    if reshaped:
        name = reshaped[0]
        shapes = f"{name}: {tuple(saved[name].shape)} there, {tuple(here[name].shape)} here"
        says.append(f"{len(reshaped)} of its tensors are of other shapes ({shapes})")
    if says:
        raise CheckpointError(
            f"the checkpoint is of another network: {'; '.join(says)}. Go on with the configuration that it was "
            "trained by, the config.yaml beside it, or start from it by model.start.checkpoint"
        )
