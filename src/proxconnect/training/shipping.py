"""The end of a run: the packed file of the trained network."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from proxconnect.conversion import Plan
from proxconnect.deploy.packed import save
from proxconnect.deploy.runtime import pack
from proxconnect.training.module import Training
from proxconnect.training.sharding import gathered

PACKED = "network.safetensors"


@dataclass(frozen=True)
class Shipped:
    """A packed file, its size and that of the float network in bytes, and the layers that stayed float."""

    path: Path
    packed_bytes: int
    float_bytes: int
    stays_float: tuple[str, ...]


def ship(module: Training, folder: Path) -> Shipped | None:
    """Write the hard network, with batch norm re-estimated, to `folder`/network.safetensors.

    Return None for a float network, and on all processes but the first. OSError if the file cannot be written.
    """
    plan = getattr(module.network, "binarization", None)
    if not isinstance(plan, Plan):
        return None
    path = folder / PACKED
    with module.accuracies.hardened(module.calibration_batches()) as network:
        whole = gathered(network, module.build)
        if not module.trainer.is_global_zero:
            return None
        save(pack(whole.eval()), path)
    floats = tuple(row.name for row in plan.rows if row.weights is None)
    return Shipped(path, path.stat().st_size, float_bytes(module.network), floats)


def float_bytes(network: nn.Module) -> int:
    """Return the bytes of the parameters and batch-norm statistics as they are, without quantizers."""
    state = network.state_dict()
    return sum(t.nbytes for name, t in state.items() if "_quantizer." not in name)
