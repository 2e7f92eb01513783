"""Quantizer: a pair, a scale and a sharpness as one module from tensor to tensor.

w = α·F_μ(x) with x = w*/ᾱ, ᾱ = mean |w*| and α = ⟨w*, F(x)⟩/⟨F(x), F(x)⟩ over the entries that share a scale; both are
held constant within the step, so the backward factor is (α/ᾱ)·B_μ(x).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from proxconnect.pairs import AnyPair, resolve
from proxconnect.pairs.prox import sign

Scale = Literal["channel", "tensor"] | None
Override = Literal["hard", "full_precision"] | None

UNSCALED_MAGNITUDE = 0.1
"""Latent weights without a scale have entries of about this size, which their sharpness must make up for."""


class Quantizer(nn.Module):
    """Quantises by a forward-backward pair: forward α·F_μ(w*/ᾱ), backward (α/ᾱ)·B_μ(w*/ᾱ).

    In `train()` F is the pair's; in `eval()` it is hard, ᾱ·sign(w*), because what is validated must be what is shipped
    (the pair `fp` alone stays float). The gradient is the pair's B in both.

    Args:
        pair: a name of `PAIRS`, a `Pair` or a `Heuristic`.
        scale: "channel" (entries that share an index of `channel_dim` share ᾱ and α), "tensor" (all share them) or
            None (ᾱ = α = 1).
        mu: the sharpness; None takes the usual start of the pair.
        channel_dim: the dimension of output channels.
        magnitude: the mean magnitude of what is quantised where `scale` is None; it sets the usual range of μ.

    `mu` is a 0-dim buffer of the state dict. A state dict without it, as a float network's, leaves it as it is; one
    with a value that the pair does not allow is refused.
    """

    mu: Tensor

    def __init__(
        self,
        pair: str | AnyPair,
        scale: Scale = "channel",
        *,
        mu: float | None = None,
        channel_dim: int = 0,
        magnitude: float = 1.0,
    ) -> None:
        super().__init__()
        if scale not in ("channel", "tensor", None):
            raise ValueError(f"scale must be 'channel', 'tensor' or None; got {scale!r}")
        self.pair = resolve(pair)
        self.scale: Scale = scale
        self.channel_dim = channel_dim
        domain = self.pair.sharpness
        self.sharpness = domain.for_magnitude(magnitude) if domain and scale is None else domain
        if mu is None:
            mu = self.sharpness.start if self.sharpness else 1.0
        elif domain:
            domain.require(mu, f"pair {self.pair.name!r}")
        self.register_buffer("mu", torch.tensor(float(mu)))
        self.override: Override = None
        self.scheduled = False
        self._stays_float = self.pair.is_identity

    @property
    def is_hard(self) -> bool:
        """Whether the forward pass is ᾱ·sign(w*) now."""
        if self.override is not None:
            return self.override == "hard"
        return not self.training and not self._stays_float

    def forward(self, latent: Tensor) -> Tensor:
        """The quantised tensor, with the shape and dtype of `latent`."""
        if self.override == "full_precision" or (self._stays_float and not self.is_hard):
            return latent
        x, alpha_bar = self._normalised(latent.detach())
        if self.is_hard:
            quantised, ratio = (
                sign(latent.detach(), self.mu),
                None,
            )  # of x it would differ where the division underflows
            alpha = alpha_bar
        else:
            quantised = self.pair.forward(x, self.mu)
            alpha, ratio = self._least_squares(latent.detach(), quantised, alpha_bar)
        value = quantised if alpha is None else (alpha * quantised).to(latent.dtype)
        surrogate: Tensor = _Surrogate.apply(latent, value, self._remembered(x), ratio, self.mu, self.pair)  # type: ignore[no-untyped-call]
        return surrogate

    def scale_of(self, latent: Tensor) -> Tensor | None:
        """ᾱ = mean |w*| per channel or tensor, broadcastable over `latent`; None without scale.

        float32 or wider, whatever the dtype of `latent`.
        """
        if self.scale is None:
            return None
        return latent.abs().mean(self._shared_dims(latent), keepdim=True, dtype=_wide(latent))

    def hard(self, latent: Tensor) -> Tensor:
        """ᾱ·sign(w*), without gradient, whatever the mode."""
        latent = latent.detach()
        signs, alpha_bar = sign(latent, self.mu), self.scale_of(latent)
        return signs if alpha_bar is None else (alpha_bar * signs).to(latent.dtype)

    def train(self, mode: bool = True) -> "Quantizer":
        """As `nn.Module.train`, after a check that μ was not left uninitialised by a loader."""
        self.require_plausible_mu()
        return super().train(mode)

    def is_soft_and_unmoved(self) -> bool:
        """Whether F takes values other than ±1 at a μ that still stands where it began, under no schedule."""
        return (
            self.sharpness is not None
            and not self.scheduled
            and math.isclose(float(self.mu), self.sharpness.start, rel_tol=1e-2)  # the buffer may be bfloat16
            and self.pair.is_soft()
        )

    def require_plausible_mu(self) -> None:
        """Raise ValueError where μ is outside the pair's domain, as it is where a loader left it uninitialised."""
        if self.mu.is_meta:
            return
        mu = float(self.mu)
        if not (self.sharpness.contains(mu) if self.sharpness else math.isfinite(mu) and mu > 0):
            raise ValueError(
                f"the sharpness of pair {self.pair.name!r} is μ = {mu:g}, which no schedule makes: it was probably "
                "never initialised. Load the weights into the float network first and call binarize() after"
            )

    def extra_repr(self) -> str:
        """The pair and the scale."""
        return f"{self.pair.name!r}, scale={self.scale!r}"

    def _normalised(self, latent: Tensor) -> tuple[Tensor, Tensor | None]:
        """x = w*/ᾱ and ᾱ; x = 0 where ᾱ = 0."""
        alpha_bar = self.scale_of(latent)
        if alpha_bar is None:
            return latent, None
        return latent / torch.where(alpha_bar == 0, 1.0, alpha_bar), alpha_bar

    def _least_squares(
        self, latent: Tensor, quantised: Tensor, alpha_bar: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """α = ⟨w*, F⟩/⟨F, F⟩ and α/ᾱ; where ᾱ = 0 the weight is 0 and the ratio 1."""
        if alpha_bar is None:
            return None, None
        dims, wide = self._shared_dims(latent), _wide(latent)
        correlation = (latent * quantised).sum(dims, keepdim=True, dtype=wide)
        energy = quantised.square().sum(dims, keepdim=True, dtype=wide)
        alpha = correlation / torch.where(energy == 0, 1.0, energy)
        return alpha, torch.where(alpha_bar == 0, 1.0, alpha / alpha_bar)

    def _shared_dims(self, latent: Tensor) -> list[int]:
        channel = self.channel_dim % latent.dim() if self.scale == "channel" and latent.dim() else -1
        return [d for d in range(latent.dim()) if d != channel]

    def _remembered(self, x: Tensor) -> Tensor | None:
        """What the backward pass needs of x: nothing where B = 1, a mask where B is an indicator, else x."""
        if self.pair.slope == "one":
            return None
        return self.pair.backward(x, self.mu) != 0 if self.pair.slope == "indicator" else x

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        loaded = state_dict.setdefault(prefix + "mu", self.mu)
        if isinstance(loaded, Tensor) and not loaded.is_meta and loaded.numel() == 1 and self.sharpness:
            try:
                self.sharpness.require(float(loaded), f"{prefix}mu, of pair {self.pair.name!r},")
            except ValueError as error:
                error_msgs.append(str(error))
                state_dict[prefix + "mu"] = self.mu
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


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


class _Surrogate(torch.autograd.Function):
    """`value` forward, ratio·B_μ(x)·g backward to the latent; `remembered` is what B needs of x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        latent: Tensor, value: Tensor, remembered: Tensor | None, ratio: Tensor | None, mu: Tensor, pair: AnyPair
    ) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, remembered, ratio, mu, ctx.pair = inputs
        ctx.save_for_backward(remembered, ratio, mu)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        remembered, ratio, mu = ctx.saved_tensors
        if remembered is not None:
            factor = remembered if remembered.dtype == torch.bool else ctx.pair.backward(remembered, mu)
            gradient = gradient * factor.to(gradient.dtype)
        if ratio is not None:
            gradient = gradient * ratio.to(gradient.dtype)
        return gradient, None, None, None, None, None


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
