"""Binary inputs of 0 and a learned number, and parameters that stay as they start."""

import math
from typing import Any

import lightning
import torch
from studies.techniques.inputs import ElasticInputs
from studies.techniques.technique import Technique, binary_layers
from torch import Tensor, nn

from proxconnect.layers import BinaryLayer
from proxconnect.layers.converted import BinaryConv
from proxconnect.quantizer import Quantizer


class ZeroOne(ElasticInputs):
    """Binary inputs of 0 and 2a, a·(F(x/a) + 1), where a is learned from ½ on (BiT, Liu 2022, arXiv 2205.13016).

    At the end of the run the layers become those of ±1 that compute the same: Σ w·a(s + 1) = a(Σ w·s + Σ w), with
    signs s that are padded with -1. A layer without bias leaves the second sum to the batch norm behind it, which
    `ship` estimates again.
    """

    def add_scales(self, layers: list[BinaryLayer]) -> None:
        """Give each input quantizer the parameter `log_scale`, log a, and the values 0 and 2a."""
        super().add_scales(layers)
        for layer in layers:
            if layer.input_quantizer is not None:
                nn.init.constant_(layer.input_quantizer.get_parameter("log_scale"), -math.log(2))
                self._hooks.append(layer.input_quantizer.register_forward_hook(_raised))

    @torch.no_grad()
    def on_train_end(self, trainer: lightning.Trainer, pl_module: nn.Module) -> None:
        """Fold the values into weights, biases and padding, and remove them."""
        for layer in binary_layers(pl_module):
            if layer.input_quantizer is not None:
                layer.latent.mul_(layer.input_quantizer.get_parameter("log_scale").exp())
                if layer.bias is not None:
                    layer.bias.add_(layer.binary_weight.flatten(1).sum(1))
                if isinstance(layer, BinaryConv):
                    layer.set_padding_value(-1)
        super().on_train_end(trainer, pl_module)


class Frozen(Technique):
    """Parameters that stay as they start: those whose names end with one of `ends`."""

    def __init__(self, ends: list[str]) -> None:
        self.ends = tuple(ends)

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Build the network now, and freeze the parameters; name this technique after those that add them."""
        pl_module.configure_model()
        for name, parameter in pl_module.named_parameters():
            if name.endswith(self.ends):
                parameter.requires_grad_(False)


def _raised(quantizer: Quantizer, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output + quantizer.get_parameter("log_scale").exp()
