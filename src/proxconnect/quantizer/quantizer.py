"""Quantizer: a pair, a scale and a sharpness as one module from tensor to tensor.

w = α·F_μ(x) with x = w*/ᾱ, ᾱ = mean |w*| and α = ⟨w*, F(x)⟩/⟨F(x), F(x)⟩ over the entries that share a scale; both are
held constant within the step, so the backward factor is (α/ᾱ)·B_μ(x). A learned scale s, the parameter `alpha`, stands
in the place of ᾱ: w = s·(α/ᾱ)·F_μ(x), where α/ᾱ brings a soft F to the magnitude of a hard one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import require_number
from proxconnect.pairs import AnyPair, resolve
from proxconnect.pairs.prox import sign
from proxconnect.quantizer import compiled
from proxconnect.quantizer.mu import HoldsMu
from proxconnect.quantizer.scales import Scales, least_squares, mean_magnitude, signed, wide
from proxconnect.quantizer.surrogate import Surrogate

Scale = Literal["channel", "tensor", "learned"] | None
Override = Literal["hard", "soft", "full_precision"] | None

FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes of what is quantised."""

UNSCALED_MAGNITUDE = 0.1
"""The mean magnitude assumed of latents without a scale, which their sharpness must make up for: a convention (torch's
default initialisation gives 1/(2√fan_in))."""


class Quantizer(HoldsMu):
    """Quantises by a forward-backward pair: forward α·F_μ(w*/ᾱ), backward (α/ᾱ)·B_μ(w*/ᾱ).

    In `train()` F is the pair's; in `eval()` it is hard, ᾱ·sign(w*), because what is validated must be what is shipped
    (the pair `fp` alone stays float). The gradient is the pair's B in both.

    Args:
        pair: a name of `PAIRS`, a `Pair` or a `Heuristic`.
        scale: "channel" (entries that share their indices of `channel_dims` share ᾱ and α), "tensor" (all share them),
            "learned" (as "channel", with a parameter `alpha` in the place of ᾱ, which `start_scale` makes) or None
            (ᾱ = α = 1).
        mu: the sharpness; None takes the usual start of the pair.
        channel_dims: the dimensions of output channels; several where a tensor stacks the weights of many layers.
        magnitude: the mean magnitude of what is quantised where `scale` is None; it sets the usual range of μ.

    Raises:
        ValueError: an unknown pair or scale, a learned scale for a pair that is float in `train()`, a μ outside the
            pair's domain, or a magnitude that is not positive.
        TypeError: for anything that is no pair, number or tuple of dimensions.

    Example:
        >>> quantizer = pc.Quantizer("bc")
        >>> quantizer(torch.tensor([[0.5, -0.25], [1.0, 3.0]]))
        tensor([[ 0.3750, -0.3750],
                [ 2.0000,  2.0000]])
    """

    alpha: nn.Parameter | None
    """The learned scale s, with the sizes of the channel dims and the latent's dtype; None without one."""
    override: Override
    """What it is within `overridden`, whatever its mode; None outside."""
    trains_latent: bool
    """Whether it leaves the latent as it is in `train()`, with gradient factor 1; an update rule sets it."""

    def __init__(
        self,
        pair: str | AnyPair,
        scale: Scale = "channel",
        *,
        mu: float | None = None,
        channel_dims: tuple[int, ...] = (0,),
        magnitude: float = 1.0,
    ) -> None:
        if scale not in ("channel", "tensor", "learned", None):
            raise ValueError(f"scale must be 'channel', 'tensor', 'learned' or None; got {scale!r}")
        pair = resolve(pair)
        if scale == "learned" and pair.is_identity:
            raise ValueError(f"pair {pair.name!r} is float in train() and learns no scale: take scale='channel'")
        if not isinstance(channel_dims, tuple):
            raise TypeError(f"channel_dims takes a tuple of dimensions, as (0, 1); got {channel_dims!r}")
        require_number(magnitude, "magnitude")
        if not magnitude > 0:
            raise ValueError(f"magnitude must be positive; got {magnitude}")
        domain = pair.sharpness
        super().__init__(pair, domain.for_magnitude(magnitude) if domain and scale is None else domain, mu)
        self.scale: Scale = scale
        self.channel_dims = channel_dims
        self.register_parameter("alpha", None)
        self.override = None
        self.trains_latent = False
        self._stays_float, self._is_sign, self._slope = self.pair.is_identity, self.pair.is_sign, self.pair.slope
        self._form = compiled.form_of(self.pair)

    @property
    def is_hard(self) -> bool:
        """Whether the forward pass is ᾱ·sign(w*) now."""
        if self.override is not None:
            return self.override == "hard"
        return not self.training and not self._stays_float

    @property
    def is_float(self) -> bool:
        """Whether the forward pass leaves what it is given as it is."""
        return self.override == "full_precision" or ((self._stays_float or self.trains_latent) and not self.is_hard)

    def forward(self, latent: Tensor) -> Tensor:
        """The quantised tensor, with the shape and dtype of `latent`; TypeError unless that is float."""
        if self._form is not None and not torch.compiler.is_compiling():  # which makes kernels of its own
            value = self._fused(latent, self._form)
            if value is not None:
                return value
        self._begin(latent)
        if self.is_float:
            return latent
        weights = latent.detach()
        alpha_bar = self.mean_magnitude(weights)
        if alpha_bar is None:
            return self._surrogate(latent, self._quantised(weights), None, None)
        if self._gives_signs and self.scale != "learned":
            value = signed(alpha_bar, weights).to(latent.dtype)
            return self._surrogate(latent, value, None if self._slope == "one" else Scales.of(alpha_bar), None)
        scales = Scales.of(alpha_bar)
        quantised, alpha, ratio = self._fitted(weights, scales)
        if self.scale != "learned":
            return self._surrogate(latent, (alpha * quantised).to(latent.dtype), scales, ratio)
        unit = self._surrogate(latent, (ratio * quantised).to(latent.dtype), scales, ratio * scales.inverse())
        return (self._learned(latent) * unit).to(latent.dtype)

    def factors(self, latent: Tensor) -> tuple[Tensor, Tensor | None]:
        """The quantised tensor as two factors, each with its gradient: F(x), and the scale, which broadcasts over it.

        F is unscaled, so that sums of its products with ±1 are integers when it is hard. Where ᾱ = 0 it is 0 and the
        scale 1, which gives weight 0 and factor B(0); a learned scale stays as it is.
        """
        self._begin(latent)
        if self.is_float:
            return latent, None
        weights = latent.detach()
        alpha_bar = self.mean_magnitude(weights)
        if alpha_bar is None:
            return self._surrogate(latent, self._quantised(weights), None, None), None
        scales = Scales.of(alpha_bar)
        quantised, alpha, ratio = self._fitted(weights, scales)
        inverse = scales.inverse()
        if self.scale == "learned":
            return self._surrogate(latent, quantised, scales, inverse), self._learned(latent) * ratio
        if self.is_hard:
            alpha = alpha.to(latent.dtype).to(alpha.dtype)  # as it ships
        value = torch.where(scales.is_zero, 0.0, quantised).to(latent.dtype)
        return self._surrogate(latent, value, scales, inverse), torch.where(scales.is_zero, 1.0, alpha)

    def mean_magnitude(self, latent: Tensor) -> Tensor | None:
        """ᾱ = mean |w*| per channel or tensor, broadcastable over `latent`; None without scale.

        float32 or wider, whatever the dtype of `latent`.
        """
        return None if self.scale is None else mean_magnitude(latent, self._shared_dims(latent))

    def hard_scale(self, latent: Tensor) -> Tensor | None:
        """The scale of the hard tensor, broadcastable over `latent`, without gradient, whatever the mode."""
        latent = latent.detach()
        return self._learned(latent).detach() if self.scale == "learned" else self.mean_magnitude(latent)

    def hard(self, latent: Tensor) -> Tensor:
        """Scale times sign(w*), without gradient, whatever the mode."""
        scale, weights = self.hard_scale(latent), latent.detach()
        if scale is None:
            return sign(weights, self.mu)
        value = scale * sign(weights, self.mu) if self.scale == "learned" else signed(scale, weights)
        return value.to(latent.dtype)

    def start_scale(self, latent: Tensor) -> None:
        """Let a learned scale, the parameter `alpha`, start at ᾱ, and make it where it is not yet; else do nothing."""
        if self.scale != "learned":
            return
        start = self.starting_scale(latent)
        if self.alpha is None:
            self.alpha = nn.Parameter(start, requires_grad=latent.requires_grad)
        else:
            with torch.no_grad():
                self.alpha.copy_(start)

    def starting_scale(self, latent: Tensor) -> Tensor:
        """Where a learned scale starts: ᾱ in the dtype of `latent`, with the sizes of the channel dims as its shape."""
        magnitude = self.mean_magnitude(latent.detach())
        assert magnitude is not None
        return magnitude.to(latent.dtype).reshape([latent.shape[d] for d in self._channels(latent)])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy begins anew: without schedule, update rule or override."""
        fresh = {"override": None, "scheduled": False, "trained": False, "trains_latent": False}
        super().__setstate__(state | fresh)

    def extra_repr(self) -> str:
        """The pair and the scale."""
        return f"{self.pair.name!r}, scale={self.scale!r}"

    def _begin(self, latent: Tensor) -> None:
        if not isinstance(latent, Tensor) or latent.dtype not in FLOAT_TYPES:
            got = latent.dtype if isinstance(latent, Tensor) else type(latent).__name__
            raise TypeError(f"a Quantizer takes a float tensor; got {got}")
        if not torch.compiler.is_compiling() and self.training and torch.is_grad_enabled() and not self.trains_latent:
            self.trained = True

    def _fused(self, latent: Tensor, form: compiled.Form) -> Tensor | None:
        """What `forward` answers in `train()` and under `soft`, by the kernels; None where they do not take it."""
        is_soft = self.training if self.override is None else self.override == "soft"
        if not is_soft or self.trains_latent or not compiled.is_plain(latent):
            return None
        rows, mu = compiled.rows_of(latent.shape, latent.stride(), self.scale, self.channel_dims), self.mu.item()
        if rows is None or form.pair is not self.pair or not compiled.SHARPNESSES[0] <= mu <= compiled.SHARPNESSES[1]:
            return None
        if not self.trained and self.training and torch.is_grad_enabled():
            self.trained = True
        is_learned = self.scale == "learned"
        value = compiled.quantise(latent, form, rows, mu, is_learned)
        return (self._learned(latent) * value).to(latent.dtype) if is_learned else value

    @property
    def _gives_signs(self) -> bool:
        return self._is_sign or self.is_hard

    def _quantised(self, x: Tensor) -> Tensor:
        """F(x), or the signs of x."""
        return sign(x, self.mu) if self._gives_signs else self.pair.forward(x, self.mu)

    def _fitted(self, weights: Tensor, scales: Scales) -> tuple[Tensor, Tensor, Tensor]:
        """F(x), the α that fits it to the weights by least squares, and α/ᾱ (1 where ᾱ = 0); for signs α is ᾱ."""
        if self._gives_signs:  # of the weights, since those of x would differ where the division underflows
            return self._quantised(weights), scales.alpha_bar, torch.ones_like(scales.alpha_bar)
        quantised = self._quantised(weights / scales.divisor)
        alpha = least_squares(weights, quantised, self._shared_dims(weights))
        return quantised, alpha, torch.where(scales.is_zero, 1.0, alpha / scales.divisor)

    def _surrogate(self, latent: Tensor, value: Tensor, scales: Scales | None, factor: Tensor | None) -> Tensor:
        """`value`, with the gradient factor·B_μ(x)."""
        divisor = None if scales is None else scales.divisor
        mask = None
        if self._slope == "indicator":
            x = latent.detach()
            mask = self.pair.support(x if divisor is None else x / divisor, self.mu)
        surrogate: Tensor = Surrogate.apply(latent, value, mask, divisor, factor, self.mu, self.pair)
        return surrogate

    def _learned(self, latent: Tensor) -> Tensor:
        """The learned scale, broadcastable over `latent`, in float32 or wider."""
        if self.alpha is None:
            raise RuntimeError("a learned scale needs its start: call start_scale(latent) on this Quantizer first")
        channels = self._channels(latent)
        shape = [latent.shape[d] if d in channels else 1 for d in range(latent.dim())]
        return self.alpha.to(wide(latent)).reshape(shape)

    def _channels(self, latent: Tensor) -> list[int]:
        """The dimensions of `latent` whose indices have a scale each."""
        if not latent.dim() or self.scale == "tensor":
            return []
        dims = range(latent.dim())
        try:
            return [dims[d] for d in self.channel_dims]
        except IndexError:
            raise ValueError(
                f"channel_dims {self.channel_dims} are no dimensions of a tensor of shape {tuple(latent.shape)}"
            ) from None

    def _shared_dims(self, latent: Tensor) -> list[int]:
        channels = self._channels(latent)
        return [d for d in range(latent.dim()) if d not in channels]


@contextmanager
def overridden(module: nn.Module, override: Override) -> Iterator[None]:
    """Have every quantizer in `module` quantise by `override`, whatever its mode; restores on any exception."""
    quantizers = [m for m in module.modules() if isinstance(m, Quantizer)]
    before = [quantizer.override for quantizer in quantizers]
    for quantizer in quantizers:
        quantizer.override = override
    try:
        yield
    finally:
        for quantizer, previous in zip(quantizers, before, strict=True):
            quantizer.override = previous
