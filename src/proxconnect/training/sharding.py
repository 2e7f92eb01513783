"""FSDP2: latents, gradients and the state of the optimizer are split over all processes."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from proxconnect.layers import BinaryLayer


class FullySharded(ModelParallelStrategy):
    """A Lightning strategy, `--trainer.strategy fsdp2`, with which `Training` splits all parameters over processes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **kwargs)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint into the network and optimizers without running its code, and return the rest."""
        return super().load_checkpoint(checkpoint_path, weights_only=True)

    def setup_environment(self) -> None:
        """Split the data over all processes, and set up the process group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Split `network` in place over the dimension "data_parallel" of `mesh`, binary layers first, and return it."""
    data_parallel = mesh["data_parallel"]
    for module in network.modules():
        if isinstance(module, BinaryLayer):
            fully_shard(module, mesh=data_parallel)
    fully_shard(network, mesh=data_parallel)
    return network


def gathered(network: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """Return `network` itself or, if it is sharded, `build()` with its whole state dict; call it on all processes."""
    if not any(isinstance(parameter, DTensor) for parameter in network.parameters()):
        return network
    whole = build()
    whole.load_state_dict(get_model_state_dict(network, options=StateDictOptions(full_state_dict=True)))
    return whole


StrategyRegistry.register("fsdp2", FullySharded, "FSDP2")
