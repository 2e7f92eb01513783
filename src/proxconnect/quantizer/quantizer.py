"""The quantizer: a pair, a scale and a sharpness as one module from tensor to tensor.

w = α·F_μ(x) with x = w*/ᾱ, ᾱ = mean |w*| and α = ⟨w*, F(x)⟩/⟨F(x), F(x)⟩ over the entries that share a scale. Both are
constant within a step, so the backward factor is (α/ᾱ)·B_μ(x). A learned scale s, the parameter `alpha`, replaces ᾱ:
w = s·(α/ᾱ)·F_μ(x). The ratio α/ᾱ brings a soft F to the magnitude of a hard one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import positive
from proxconnect.pairs import AnyPair, resolve
from proxconnect.pairs.probing import require_sound
from proxconnect.pairs.prox import sign
from proxconnect.quantizer.by_kernels import quantised
from proxconnect.quantizer.forms import Form, form_of
from proxconnect.quantizer.scales import Scale, Scales, Sharing, least_squares, signed, wide
from proxconnect.quantizer.sharpened import Sharpened
from proxconnect.quantizer.surrogate import Surrogate

Override = Literal["hard", "soft", "full_precision"] | None

FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes that a quantizer takes."""

UNSCALED_MAGNITUDE = 0.1
"""The assumed mean magnitude of latents without a scale, which sets their usual range of μ: a convention."""


class Quantizer(Sharpened):
    """A forward-backward pair with a scale: forward α·F_μ(w*/ᾱ), backward (α/ᾱ)·B_μ(w*/ᾱ).

    In `train()` F is the pair's. In `eval()` weights are hard, ᾱ·sign(w*) or, with a learned scale s, s·sign(w*), so
    that you validate the network that ships; only the pair `fp` stays float. The gradient uses B in both modes.

    Args:
        pair: a name of `PAIRS`, a `Pair` or a `Heuristic`.
        scale: "channel" (entries with the same indices of `channel_dims` share ᾱ and α), "tensor" (all entries share
            them), "learned" (as "channel", but the quantised weight is multiplied by s/ᾱ, where s is the parameter
            `alpha`, which `start_scale` makes) or None (ᾱ = α = 1).
        mu: the sharpness; None takes the fixed μ of the pair or, if it has none, the usual start.
        channel_dims: the dimensions of output channels; several if a tensor stacks the weights of many layers.
        magnitude: the mean magnitude of the inputs if `scale` is None; it sets the usual range of μ.

    Raises:
        ValueError: the pair or scale is unknown, the scale is learned but the pair is float in `train()`, μ lies
            outside the pair's domain, the magnitude is not positive and finite, or F or B of a pair of your own changes
            its input or returns no finite tensor of its shape and dtype.
        TypeError: an argument is no pair, number or tuple of dimensions.

    Example:
        >>> quantizer = pc.Quantizer("bc")
        >>> quantizer(torch.tensor([[0.5, -0.25], [1.0, 3.0]]))
        tensor([[ 0.3750, -0.3750],
                [ 2.0000,  2.0000]])
    """

    alpha: nn.Parameter | None
    """The learned scale s, with the sizes of the channel dims as shape and the latent's dtype; None without one."""
    override: Override
    """The mode that `overridden` sets: "hard", "soft" (as in `train()`) or "full_precision"; None outside of it."""
    ruled: bool
    """True if an update rule acts on the latents."""
    trains_latent: bool
    """True if `forward` returns its input in `train()`, with gradient factor 1; an update rule sets it."""
    float_sample: Tensor | None = None
    """Some entries of the weight of a float network, (n,), until a pass in `train()` quantises it; else None."""

    def __init__(
        self,
        pair: str | AnyPair,
        scale: Scale = "channel",
        *,
        mu: float | None = None,
        channel_dims: tuple[int, ...] = (0,),
        magnitude: float = 1.0,
    ) -> None:
        sharing = Sharing(scale, channel_dims)
        pair = resolve(pair)
        require_sound(pair)
        if scale == "learned" and pair.is_identity:
            raise ValueError(f"pair {pair.name!r} is float in train() and learns no scale: take scale='channel'")
        magnitude = positive(magnitude, "magnitude")
        domain = pair.sharpness
        super().__init__(pair, domain.for_magnitude(magnitude) if domain and scale is None else domain, mu)
        self.ruled = self.trains_latent = False
        self.sharing, self.scale, self.channel_dims = sharing, sharing.scale, sharing.channel_dims
        self.register_parameter("alpha", None)
        self.override = None
        self._stays_float, self._is_sign, self._slope = pair.is_identity, pair.is_sign, pair.slope
        self._form = form_of(pair)

    @property
    def is_hard(self) -> bool:
        """True if `forward` takes signs whatever the pair: in `eval()` except for `fp`, or as `override` says."""
        if self.override is not None:
            return self.override == "hard"
        return not self.training and not self._stays_float

    @property
    def is_float(self) -> bool:
        """True if `forward` now returns its input: in "full_precision", or for `fp` or `trains_latent` if not hard."""
        return self.override == "full_precision" or ((self._stays_float or self.trains_latent) and not self.is_hard)

    def forward(self, latent: Tensor) -> Tensor:
        """Quantise `latent` as the mode, or `override`, says; the shape and dtype stay.

        TypeError if `latent` is no float tensor. Unless it stays float: ValueError if it lacks one of the channels'
        dimensions, RuntimeError if the scale is learned and `start_scale` was not called.
        """
        if self._form is not None and not torch.compiler.is_compiling():  # torch.compile makes its own kernels
            value = self._by_kernels(latent, self._form)
            if value is not None:
                return value
        self._begin(latent)
        if self.is_float:
            return latent
        weights = latent.detach()
        alpha_bar = self.sharing.mean_magnitude(weights)
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
        """Return (F(x), scale), whose product is the quantised tensor; (latent, None) if it stays float.

        F(x) has the shape and dtype of `latent` and carries its gradient. The scale, None if `scale` is None, is
        broadcastable, in float32 or wider, without gradient unless learned. If F is hard, the sums of its products with
        ±1 are integers. For ᾱ = 0, F is 0 and the scale 1, which gives weight 0 and factor B(0), but not if it is
        learned.
        """
        self._begin(latent)
        if self.is_float:
            return latent, None
        weights = latent.detach()
        alpha_bar = self.sharing.mean_magnitude(weights)
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

    def hard_scale(self, latent: Tensor) -> Tensor | None:
        """Return ᾱ or the learned scale, without gradient, in float32 or wider, broadcastable; None without a scale."""
        latent = latent.detach()
        return self._learned(latent).detach() if self.scale == "learned" else self.sharing.mean_magnitude(latent)

    def hard(self, latent: Tensor) -> Tensor:
        """Return scale·sign(latent) in every mode, with sign(0) = 1, without gradient, in latent's shape and dtype."""
        scale, weights = self.hard_scale(latent), latent.detach()
        if scale is None:
            return sign(weights, self.mu)
        value = scale * sign(weights, self.mu) if self.scale == "learned" else signed(scale, weights)
        return value.to(latent.dtype)

    def start_scale(self, latent: Tensor) -> None:
        """If the scale is learned, set the parameter `alpha`, made at the first call, to ᾱ of `latent`."""
        if self.scale != "learned":
            return
        start = self.starting_scale(latent)
        if self.alpha is None:
            self.alpha = nn.Parameter(start, requires_grad=latent.requires_grad)
        else:
            with torch.no_grad():
                self.alpha.copy_(start)

    def starting_scale(self, latent: Tensor) -> Tensor:
        """Return the tensor that `start_scale` sets `alpha` to: ᾱ of `latent` in its dtype, a value per channel."""
        magnitude = self.sharing.mean_magnitude(latent.detach())
        assert magnitude is not None
        return magnitude.to(latent.dtype).reshape(self.sharing.channel_sizes(latent))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy without the schedule, update rule and override of the original."""
        fresh = {"override": None, "scheduled": False, "trained": False, "ruled": False, "trains_latent": False}
        super().__setstate__(state | fresh)

    def extra_repr(self) -> str:
        """Return text on the pair and the scale for `repr`."""
        return f"{self.pair.name!r}, scale={self.scale!r}"

    def _begin(self, latent: Tensor) -> None:
        if not isinstance(latent, Tensor) or latent.dtype not in FLOAT_TYPES:
            got = latent.dtype if isinstance(latent, Tensor) else type(latent).__name__
            raise TypeError(f"a Quantizer takes a float tensor; got {got}")
        if self.training and not torch.compiler.is_compiling():
            self._note_training()

    def _note_training(self) -> None:
        """Note that a pass in `train()` uses μ, and quantises a float weight if there was one."""
        if not self.trained and torch.is_grad_enabled() and not self.trains_latent:
            self.trained = True
        if self.float_sample is not None and not self.is_float:
            self.float_sample = None

    def _by_kernels(self, latent: Tensor, form: Form) -> Tensor | None:
        """Run `forward` of `train()` and `soft` by kernels; return None if they do not take this case."""
        is_soft = self.training if self.override is None else self.override == "soft"
        if not is_soft or self.trains_latent or form.pair is not self.pair:
            return None
        value = quantised(latent, form, self.scale, self.channel_dims, self.mu)
        if value is not None and self.training:
            self._note_training()
        return value if value is None or self.scale != "learned" else (self._learned(latent) * value).to(latent.dtype)

    @property
    def _gives_signs(self) -> bool:
        return self._is_sign or self.is_hard

    def _quantised(self, x: Tensor) -> Tensor:
        """Return F(x), or the signs of x if F is hard."""
        return sign(x, self.mu) if self._gives_signs else self.pair.forward(x, self.mu)

    def _fitted(self, weights: Tensor, scales: Scales) -> tuple[Tensor, Tensor, Tensor]:
        """Return F(x), its least-squares α (ᾱ for signs) and α/ᾱ (1 for ᾱ = 0)."""
        if self._gives_signs:  # of the weights: in x, the division may underflow
            return self._quantised(weights), scales.alpha_bar, torch.ones_like(scales.alpha_bar)
        quantised = self._quantised(weights / scales.divisor)
        alpha = least_squares(weights, quantised, self.sharing.shared_dims(weights))
        return quantised, alpha, torch.where(scales.is_zero, 1.0, alpha / scales.divisor)

    def _surrogate(self, latent: Tensor, value: Tensor, scales: Scales | None, factor: Tensor | None) -> Tensor:
        """Return `value` with the gradient factor·B_μ(x)."""
        divisor = None if scales is None else scales.divisor
        mask = None
        if self._slope == "indicator":
            x = latent.detach()
            mask = self.pair.support(x if divisor is None else x / divisor, self.mu)
        surrogate: Tensor = Surrogate.apply(latent, value, mask, divisor, factor, self.mu, self.pair)
        return surrogate

    def _learned(self, latent: Tensor) -> Tensor:
        """Return the learned scale in float32 or wider, broadcastable over `latent`."""
        if self.alpha is None:
            raise RuntimeError("a learned scale needs its start: call start_scale(latent) on this Quantizer first")
        return self.sharing.broadcast(self.alpha.to(wide(latent)), latent)


@contextmanager
def overridden(module: nn.Module, override: Override) -> Iterator[None]:
    """Set `override` of every `Quantizer` in `module` in the context, and restore it at the end, also on exceptions."""
    quantizers = [m for m in module.modules() if isinstance(m, Quantizer)]
    before = [quantizer.override for quantizer in quantizers]
    for quantizer in quantizers:
        quantizer.override = override
    try:
        yield
    finally:
        for quantizer, previous in zip(quantizers, before, strict=True):
            quantizer.override = previous
