"""Health meters: the state of the binary layers in training, as plain numbers, cheap enough to leave on."""

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import require_module
from proxconnect.kernels.bits import pack_bits, unpack_bits
from proxconnect.layers import BinaryLayer
from proxconnect.quantizer import Quantizer
from proxconnect.quantizer.softness import normalised

EDGES = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
"""Edges between the bins of the histogram of latents, in units of ᾱ (of 1 without a scale)."""

BINS = (
    f"below_{EDGES[0]:g}",
    *(f"{low:g}_to_{high:g}" for low, high in pairwise(EDGES)),
    f"from_{EDGES[-1]:g}",
)
"""Names of the bins; each includes its lower edge and not its upper one."""


@dataclass(frozen=True)
class LayerHealth:
    """The health of one binary layer at one reading of `Meters`, which makes it; shares are from 0 to 1.

    x is the latent weight divided by its mean magnitude ᾱ, or the latent itself in a layer without a scale. One NaN
    makes all x with the same ᾱ NaN, and the softness too. F and B are those of `train()`, whatever the mode.
    """

    weights: int
    """The number of its weights. Under FSDP, all numbers are those of the weights on this rank."""
    softness: float
    """The mean of ||F(x)| - 1|, the distance of the weights from ±α in units of α; 0 if F is hard."""
    dead_share: float
    """The share of weights without gradient: B(x) = 0."""
    nonfinite_share: float
    """The share of weights whose x is NaN or infinite."""
    histogram: tuple[float, ...]
    """The shares of weights with a finite x in each of the `BINS`; with `nonfinite_share` they sum to 1."""
    flip_rate: float | None = None
    """The share of latents whose sign differs from the reading before (0 and NaN count as +); None at the first."""
    input_softness: float | None = None
    """The mean of ||F| - 1| over the layer's input, in the first batch since the reading before; None without one."""
    input_dead_share: float | None = None
    """The share of entries of that input that pass no gradient, since B = 0."""
    input_nonfinite_share: float | None = None
    """The share of entries of that input that are NaN or infinite; ±inf counts by its sign in the other two."""
    gradient_nonfinite_share: float | None = None
    """The share of entries of the latent's present gradient that are NaN or infinite; None without gradient."""
    input_positive_share: float | None = None
    """The share of entries of that input that become +1; all or none if the input has one sign only."""
    overflow_share: float | None = None
    """The share of the layer's sums since the reading before that overflowed its accumulator; None without sums."""

    def numbers(self) -> dict[str, float]:
        """Return the numbers that are not None by the name of their attribute, ready to log.

        `weights` is left out. The shares of the histogram have names such as `latents_-1_to_-0.5`.
        """
        known = {name: value for name, value in vars(self).items() if value is not None}
        del known["weights"], known["histogram"]
        return known | {f"latents_{name}": share for name, share in zip(BINS, self.histogram, strict=True)}


class Meters:
    """Meters that measure the health of every binary layer of `model` while it trains, in any training loop.

    Call `logger.log(meters.read())` as often as you like; `diagnose` explains what `layers()` returns. A reading
    costs about as much as quantising the weights twice more, and one transfer to the host a layer. A step without a
    reading is free, except that it counts overflows, and that the first one after a reading measures binary inputs. The
    meters keep 1 bit a weight: the signs at the last reading. State dicts, random state, gradients and modes stay as
    they are.

    Make it before `torch.compile`, under which inputs are not measured. Several Meters of one model are independent.
    With DistributedDataParallel each rank reads its own numbers; with FSDP2 they are those of the local shard.

    Raises:
        TypeError: `model` is no module.
        ValueError: `model` has no binary layer, or one on the meta device.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> meters = pc.Meters(pc.binarize(model, "bnn++"))
        >>> model(torch.randn(16, 4)).square().mean().backward()
        >>> meters.read()["1/dead_share"]  # of layer "1"
        0.0
    """

    def __init__(self, model: nn.Module) -> None:
        require_module(model, "Meters(model)")
        layers = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
        if not layers:
            raise ValueError(f"{type(model).__name__} has no binary layer: call proxconnect.binarize(model) first")
        for name, layer in layers.items():
            if layer.latent.is_meta:
                raise ValueError(f"layer {name!r} is on the meta device and has no values: materialise it first")
        self._gauges = {name: _Gauge(layer) for name, layer in layers.items()}
        self._layers: dict[str, LayerHealth] = {}

    def __repr__(self) -> str:
        return f"<Meters of {len(self._gauges)} binary layer{'s' * (len(self._gauges) > 1)}>"

    def read(self) -> dict[str, float]:
        """Measure the layers with weights on this rank now, and return all numbers by name: those of layers and means.

        Names are such as "layer1.conv/softness", and for means "all/softness". `LayerHealth` describes the numbers;
        those that are None are left out. Numbers "since the reading before" start again with each call. Means are over
        the layers that have the number, weighted by their counts of weights. The histogram comes as the shares of its
        bins, which average over layers and ranks. A model that is a binary layer itself is called "model". Apart from
        the names of layers, names have only letters, digits and `_-./`, which TensorBoard and MLflow take.
        """
        weights = {name: _local(gauge.layer.latent).numel() for name, gauge in self._gauges.items()}
        measured = {name: gauge.measure() for name, gauge in self._gauges.items() if weights[name]}
        self._layers = {name: _health(weights[name], tensors) for name, tensors in measured.items()}
        rows = {name or "model": health.numbers() for name, health in self._layers.items()}
        sums: dict[str, float] = defaultdict(float)
        known: dict[str, int] = defaultdict(int)
        for health in self._layers.values():
            for key, value in health.numbers().items():
                sums[key] += health.weights * value
                known[key] += health.weights
        rows["all"] = {key: total / known[key] for key, total in sums.items()}
        return {f"{name}/{key}": value for name, row in rows.items() for key, value in row.items()}

    def layers(self) -> dict[str, LayerHealth]:
        """Return the health of each measured layer at the last `read()`, by qualified name; empty before the first."""
        return dict(self._layers)

    def remove(self) -> None:
        """Remove the meters' hooks and overflow counts from the model; `read` returns an empty dict afterwards."""
        for gauge in self._gauges.values():
            if gauge.hook is not None:
                gauge.hook.remove()
            others = tuple(counts for counts in gauge.layer.overflow_counts if counts is not gauge.counts)
            vars(gauge.layer).pop("overflow_counts", None)
            if others:
                gauge.layer.overflow_counts = others
        self._gauges = {}


class _Gauge:
    """The state of one layer between two readings."""

    def __init__(self, layer: BinaryLayer) -> None:
        self.layer = layer
        self.signs: tuple[torch.Size, Tensor] | None = None
        self.probe = _Probe()
        inputs = layer.input_quantizer
        self.hook = None if inputs is None else inputs.register_forward_pre_hook(self.probe)
        self.counts: Tensor | None = None
        if layer.accumulator is not None:
            with torch.inference_mode(False):  # training must be able to count in it
                self.counts = torch.zeros(2, dtype=torch.int64, device=layer.latent.device)
            layer.overflow_counts += (self.counts,)

    @torch.no_grad()
    def measure(self) -> dict[str, Tensor]:
        """Return the known fields of `LayerHealth` as tensors, and begin a new span for those since a reading."""
        latent, quantizer = _local(self.layer.latent), self.layer.weight_quantizer
        x = normalised(quantizer, self.layer.by_channel(latent))
        softness, dead = _quality(quantizer, x)
        bins, nonfinite = _histogram(x)
        measured = {"softness": softness, "dead_share": dead, "nonfinite_share": nonfinite, "histogram": bins}
        if (gradient := self.layer.latent.grad) is not None and _local(gradient).numel() > 0:
            measured["gradient_nonfinite_share"] = _nonfinite(_local(gradient))
        if (seen := self.probe.seen) is not None:
            names = ("input_softness", "input_dead_share", "input_nonfinite_share", "input_positive_share")
            measured |= dict(zip(names, seen, strict=True))
            self.probe.seen = None
        positive = ~(latent < 0)
        last, self.signs = self.signs, (latent.shape, pack_bits(2 * positive.to(torch.int8) - 1))
        if last is not None and last[0] == latent.shape:
            was_positive = unpack_bits(last[1].to(latent.device), latent.shape, torch.int8) > 0
            measured["flip_rate"] = _share([torch.count_nonzero(positive != was_positive)], latent)
        if (counts := self.counts) is not None:
            overflowed, sums = counts.to(torch.float32)
            counts.zero_()
            measured["overflow_share"] = overflowed / sums
        return measured


class _Probe:
    """A hook before an input quantizer that measures the first input."""

    def __init__(self) -> None:
        self.seen: tuple[Tensor, ...] | None = None

    def __call__(self, quantizer: Quantizer, args: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling() or self.seen is not None:
            return
        # Fake tensors have no values, and those of `torch.func` may not leave it.
        x = args[0]
        if type(x) is Tensor and x.numel() > 0 and not torch._C._functorch.is_functorch_wrapped_tensor(x):
            with torch.no_grad():
                positive = _share([torch.count_nonzero(part >= 0) for part in _parts(x)], x)
                self.seen = (*_quality(quantizer, normalised(quantizer, x)), _nonfinite(x), positive)


def _quality(quantizer: Quantizer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean ||F(x)| - 1| and the share of B(x) = 0."""
    pair, mu = quantizer.pair, quantizer.mu.to(x.device)  # FSDP2 may keep latents alone on the host
    wide = torch.promote_types(x.dtype, torch.float32)
    distances = [(pair.forward(part, mu).abs() - 1).abs().sum(dtype=wide) for part in _parts(x)]
    dead = [torch.count_nonzero(pair.backward(part, mu) == 0) for part in _parts(x)]
    return torch.stack(distances).sum() / x.numel(), _share(dead, x)


def _histogram(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of the bins, and of values that are not finite, by comparisons: the host need not wait."""
    most = torch.finfo(x.dtype).max
    below = [torch.stack([*(torch.count_nonzero(part < edge) for edge in (-most, *EDGES)),
                          torch.count_nonzero(part <= most)]) for part in _parts(x)]  # fmt: skip
    counts = torch.stack(below).sum(0)
    nonfinite = x.numel() - (counts[-1] - counts[0])  # in integers, so that one of many does not become 0
    return _share([counts.diff()], x), _share([nonfinite], x)


def _nonfinite(tensor: Tensor) -> Tensor:
    """Return the share of entries that are NaN or infinite."""
    most = torch.finfo(tensor.dtype).max
    return _share([part.numel() - torch.count_nonzero(part.abs() <= most) for part in _parts(tensor)], tensor)


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """Return flat pieces whose temporaries fit the cache of the host: three times faster than the whole at once."""
    parts: tuple[Tensor, ...] = x.reshape(-1).split(1 << 18 if x.device.type == "cpu" else 1 << 26)
    return parts


def _share(counts: list[Tensor], x: Tensor) -> Tensor:
    """Divide the sum of integer counts over the parts of `x` by its entries."""
    return torch.stack(counts).sum(0).to(torch.float32) / x.numel()


def _health(weights: int, tensors: dict[str, Tensor]) -> LayerHealth:
    """Move the measured fields to the host, by one transfer."""
    device = tensors["softness"].device  # the input may have been elsewhere, before the layer moved
    numbers = iter(torch.cat([t.reshape(-1).to(device, torch.float32) for t in tensors.values()]).tolist())
    measured: dict[str, Any] = {
        name: tuple(islice(numbers, len(t))) if t.dim() else next(numbers) for name, t in tensors.items()
    }
    if math.isnan(measured.get("overflow_share", 0.0)):  # 0 of 0 sums
        del measured["overflow_share"]
    return LayerHealth(weights, **measured)


def _local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that is on this rank."""
    to_local = getattr(tensor, "to_local", None)  # a method of DTensor, which is slow to import
    return tensor if to_local is None else to_local()
