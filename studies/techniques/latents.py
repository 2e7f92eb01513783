"""Techniques that act on the latents: balance, a late pull, clamps, and weight decay in the first phase only."""

from typing import Any

import lightning
import torch
from studies.techniques.technique import Technique, progress

from proxconnect.layers import BinaryLayer


class Balanced(Technique):
    """Balanced, standardised latents: Libra of IR-Net (Qin 2020, arXiv 1909.10788).

    After each step every output channel has mean 0 and standard deviation `std`. IR-Net does the same in the forward
    pass and leaves the latents as they are; the hard weights are the same.
    """

    def __init__(self, std: float = 0.1) -> None:
        self.std = std

    def after_step(self, layers: list[BinaryLayer], share: float) -> None:
        """Standardise the latents of each output channel; a channel of equal latents becomes 0."""
        for layer in layers:
            channels = layer.by_channel(layer.latent).flatten(1)
            std, mean = torch.std_mean(channels, dim=1, keepdim=True)
            balanced = (channels - mean) * (self.std / std.clamp(min=1e-12))
            layer.latent.copy_(balanced.reshape(layer.latent.shape))


class LatePull(Technique):
    """A pull of the latents to ±scale late in the run (BHViT, Gao 2025, arXiv 2503.02394).

    From the share `since` of all steps on, each step moves the latents by the share `rate` of their distance from the
    hard weights. BHViT adds a penalty to the loss instead; this is its decoupled form, as weight decay is in AdamW.
    """

    def __init__(self, rate: float = 0.002, since: float = 0.5) -> None:
        self.rate, self.since = rate, since

    def after_step(self, layers: list[BinaryLayer], share: float) -> None:
        """Move the latents towards the hard weights."""
        if share > self.since:
            for layer in layers:
                layer.latent.lerp_(layer.binary_weight, self.rate)


class QuantileClamp(Technique):
    """Clamps of the latents at their quantiles (ReCU, Xu 2021, arXiv 2103.12369).

    After each step the latents of a layer lie between their quantiles 1 - τ and τ, where τ moves from `start` to `end`.
    ReCU clamps in the forward pass and standardises as well.
    """

    def __init__(self, start: float = 0.85, end: float = 0.99) -> None:
        self.start, self.end = start, end

    def after_step(self, layers: list[BinaryLayer], share: float) -> None:
        """Clamp the latents of each layer."""
        tau = self.start + (self.end - self.start) * share
        for layer in layers:
            low, high = torch.quantile(layer.latent, torch.tensor([1 - tau, tau]))
            layer.latent.clamp_(low, high)


class DecayFirst(Technique):
    """Weight decay in the first phase and none after it (AdamBNN, Liu 2021, arXiv 2106.11309).

    All parameter groups have the decay `decay` until the share `until` of all steps, then 0. The phases of AdamBNN are
    two runs, with float weights in the first; here it is one run.
    """

    def __init__(self, decay: float = 0.1, until: float = 0.5) -> None:
        self.decay, self.until = decay, until

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *batch: Any
    ) -> None:
        """Set the weight decay of the next step."""
        for group in trainer.optimizers[0].param_groups:
            group["weight_decay"] = self.decay if progress(trainer) < self.until else 0.0
