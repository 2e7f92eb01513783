"""Schedules of μ of the weights for each layer. They replace the value that `Sharpening` sets after each step.

There is no schedule with μ / mean |w| by layer: with a scale the quantizer divides latents by their mean magnitude, so
every schedule of μ is one already.
"""

import torch
from studies.techniques.technique import Technique
from torch import Tensor

from proxconnect.layers import BinaryLayer
from proxconnect.quantizer.softness import normalised

SAMPLES, HALVINGS = 256, 12


class Sharpen(Technique):
    """A base that sets μ of each layer before each step, from `start` to `end`, which it keeps for the share `hold`."""

    def __init__(self, start: float = 0.1, end: float = 30.0, hold: float = 0.1) -> None:
        self.start, self.end, self.hold = start, end, hold

    def before_step(self, layers: list[BinaryLayer], share: float) -> None:
        """Set μ of the weights of each layer."""
        for layer, mu in zip(layers, self.sharpnesses(layers, share), strict=True):
            layer.weight_quantizer.mu.fill_(mu)

    def sharpnesses(self, layers: list[BinaryLayer], share: float) -> list[float]:
        """Return μ of each layer when the `share` of all steps is done."""
        raise NotImplementedError

    def course(self, share: float) -> float:
        """Return μ when the `share` of its way is done, limited to [0, 1], on an exponential from start to end."""
        return float(self.start * (self.end / self.start) ** min(1.0, max(0.0, share)))


class SharpenInOrder(Sharpen):
    """μ that rises in one layer after the other, from input to output (StoMPP, Smith 2026, arXiv 2606.27759).

    Each layer rises during the share `window` of all steps; the windows of the layers begin at equal distances. StoMPP
    makes random entries hard instead: see `freezing.Freezing`.
    """

    def __init__(self, start: float = 0.1, end: float = 30.0, hold: float = 0.1, window: float = 0.4) -> None:
        super().__init__(start, end, hold)
        self.window = window

    def sharpnesses(self, layers: list[BinaryLayer], share: float) -> list[float]:
        """Return μ of each layer, which does not rise from input to output."""
        apart = (1 - self.hold - self.window) / max(1, len(layers) - 1)
        return [self.course((share - i * apart) / self.window) for i in range(len(layers))]


class SharpenByMagnitude(Sharpen):
    """μ in proportion to mean |w| of the layer: one μ for the latents themselves (ProxConnect, arXiv 2110.13220).

    The published schedules have no scale, so a layer of larger latents becomes hard sooner. The geometric mean of μ
    over the layers is that of the plain schedule.
    """

    def sharpnesses(self, layers: list[BinaryLayer], share: float) -> list[float]:
        """Return μ of each layer, times its mean |w| over the geometric mean of these."""
        magnitudes = torch.stack([layer.latent.abs().mean() for layer in layers])
        relative = magnitudes / magnitudes.log().mean().exp()
        return (self.course(share / (1 - self.hold)) * relative).tolist()


class SharpenBySoftness(Sharpen):
    """μ such that what hardening changes falls linearly, the same in all layers: ours.

    The softness of a layer is the share of the energy of F(x) that is lost by taking signs, 1 - ⟨F, sign⟩²/(⟨F, F⟩ n):
    0.36 for Gaussian latents at μ → 0, and 0 for a hard layer. It falls from that at `start` to `softness`.
    """

    def __init__(self, start: float = 0.1, end: float = 300.0, hold: float = 0.1, softness: float = 0.01) -> None:
        super().__init__(start, end, hold)
        self.softness = softness

    def sharpnesses(self, layers: list[BinaryLayer], share: float) -> list[float]:
        """Return μ of each layer by bisection between start and end, for a sample of its latents."""
        inputs, pair = torch.stack([sample(layer) for layer in layers]), layers[0].weight_quantizer.pair
        low = torch.full((len(layers), 1), self.start).log()
        high = torch.full((len(layers), 1), self.end).log()
        done = min(1.0, share / (1 - self.hold))
        wanted = torch.lerp(softness(pair.forward(inputs, low.exp())), torch.tensor(self.softness), done)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            is_soft = softness(pair.forward(inputs, middle.exp())) > wanted
            low, high = torch.where(is_soft, middle, low), torch.where(is_soft, high, middle)
        return high.exp().flatten().tolist() if done else [self.start] * len(layers)


class SharpenInTwoPhases(Sharpen):
    """μ that stays at its start until the share `since` of all steps, and rises after it: ours."""

    def __init__(self, start: float = 0.1, end: float = 30.0, hold: float = 0.1, since: float = 0.4) -> None:
        super().__init__(start, end, hold)
        self.since = since

    def sharpnesses(self, layers: list[BinaryLayer], share: float) -> list[float]:
        """Return the same μ for each layer."""
        return [self.course((share - self.since) / (1 - self.hold - self.since))] * len(layers)


def sample(layer: BinaryLayer) -> Tensor:
    """Return `SAMPLES` latents of the layer at equal distances, divided by ᾱ."""
    x = normalised(layer.weight_quantizer, layer.by_channel(layer.latent)).flatten()
    return x[torch.linspace(0, len(x) - 1, SAMPLES).long()]


def softness(values: Tensor) -> Tensor:
    """Return the share of the energy of each row of `values` (L, n) that taking signs loses, (L, 1)."""
    return 1 - values.abs().mean(1, keepdim=True).square() / values.square().mean(1, keepdim=True)
