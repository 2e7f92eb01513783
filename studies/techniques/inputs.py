"""A learned scale of binary inputs."""

from typing import Any

import lightning
import torch
from studies.techniques.technique import Technique, binary_layers
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from proxconnect.layers import BinaryLayer
from proxconnect.quantizer import Quantizer


class ElasticInputs(Technique):
    """A learned scale α of the binary inputs of each layer, y = α·F(x/α) (BiT, Liu 2022, arXiv 2205.13016).

    AdaBin (Tu 2022, arXiv 2208.08084) has it too. For a hard F and a layer whose sums go into a batch norm, the norm
    absorbs α in the forward pass; a learned width of B is left. At the end of the run α goes, and `ship` estimates
    batch norm again, so the packed network is the trained one up to the norm's ε.
    """

    def __init__(self) -> None:
        self._hooks: list[RemovableHandle] = []

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Build the network now, so that the optimizer, which is made next, gets the scales."""
        pl_module.configure_model()
        self.add_scales(binary_layers(pl_module))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remove the scales."""
        while self._hooks:
            self._hooks.pop().remove()
        for layer in binary_layers(pl_module):
            if layer.input_quantizer is not None:
                del layer.input_quantizer._parameters["log_scale"]

    def add_scales(self, layers: list[BinaryLayer]) -> None:
        """Give each input quantizer the parameter `log_scale`, a scalar that starts at 0."""
        for layer in layers:
            if layer.input_quantizer is not None:
                layer.input_quantizer.register_parameter("log_scale", nn.Parameter(torch.zeros(())))
                self._hooks.append(layer.input_quantizer.register_forward_pre_hook(_divided))
                self._hooks.append(layer.input_quantizer.register_forward_hook(_multiplied))


def _divided(quantizer: Quantizer, inputs: tuple[Any, ...]) -> tuple[Tensor]:
    return (inputs[0] / quantizer.get_parameter("log_scale").exp(),)


def _multiplied(quantizer: Quantizer, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output * quantizer.get_parameter("log_scale").exp()
