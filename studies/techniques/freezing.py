"""Progressive freezing: entries become hard at random, in one layer after the other."""

from typing import Any

import lightning
import torch
from studies.techniques.technique import Technique, binary_layers
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from proxconnect.layers import BinaryLayer
from proxconnect.quantizer import Quantizer


class Freezing(Technique):
    """Entries that become hard from input to output (StoMPP, Smith 2026, arXiv 2606.27759).

    In one layer after the other the share of hard entries rises from 0 to 1; all are hard for the last share `hold` of
    all steps. A hard entry is scale·sign with the gradient of the pair's B. The paper calls this composed with a
    surrogate gradient. Masks are drawn for each pass, where the paper refreshes a part of them. Inputs take part if
    their pair is soft. Let μ be constant, since the masks do the hardening.
    """

    def __init__(self, hold: float = 0.1) -> None:
        self.hold = hold
        self.shares: dict[Quantizer, float] = {}
        self._hooks: list[RemovableHandle] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Watch the quantizers of all binary layers until the run ends."""
        self.watch(binary_layers(pl_module))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the quantizers as they were."""
        while self._hooks:
            self._hooks.pop().remove()

    def watch(self, layers: list[BinaryLayer]) -> None:
        """Let `mixed` replace the output of each quantizer in `train()`."""
        quantizers = [quantizer for layer in layers for quantizer in layer.quantizers.values()]
        self._hooks += [quantizer.register_forward_hook(self.mixed) for quantizer in quantizers]

    def before_step(self, layers: list[BinaryLayer], share: float) -> None:
        """Set the share of hard entries of each layer."""
        frozen = share / (1 - self.hold) * len(layers)
        for place, layer in enumerate(layers):
            self.shares |= dict.fromkeys(layer.quantizers.values(), min(1.0, max(0.0, frozen - place)))

    def mixed(self, quantizer: Quantizer, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return `output` with hard values in random entries, and its gradient; unchanged outside of training."""
        share = self.shares.get(quantizer, 0.0)
        if share == 0 or not quantizer.training or quantizer.override is not None:
            return output
        change = quantizer.hard(inputs[0]) - output.detach()
        return output + (change if share == 1 else change * (torch.rand_like(change) < share))
