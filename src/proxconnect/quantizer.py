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

from proxconnect.pairs import AnyPair, Sharpness, resolve
from proxconnect.pairs.prox import sign

Scale = Literal["channel", "tensor"] | None
Override = Literal["hard", "full_precision"] | None

FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes of what is quantised."""

PLAUSIBLE = (1e-6, 1e9)
"""Values of μ outside are taken for uninitialised memory."""

UNSCALED_MAGNITUDE = 0.1
"""The mean magnitude assumed of latents without a scale, which their sharpness must make up for: a convention (torch's
default initialisation gives 1/(2√fan_in))."""


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
        with torch.inference_mode(False):  # a schedule must be able to move it
            self.register_buffer("mu", torch.tensor(float(mu)))
        self.override: Override = None
        self.scheduled = self.trained = False
        self._stays_float = self.pair.is_identity

    @property
    def is_hard(self) -> bool:
        """Whether the forward pass is ᾱ·sign(w*) now."""
        if self.override is not None:
            return self.override == "hard"
        return not self.training and not self._stays_float

    def forward(self, latent: Tensor) -> Tensor:
        """The quantised tensor, with the shape and dtype of `latent`; TypeError unless that is float."""
        if latent.dtype not in FLOAT_TYPES:
            raise TypeError(f"a Quantizer takes a float tensor; got {latent.dtype}")
        if not torch.compiler.is_compiling() and self.training and torch.is_grad_enabled():
            self.trained = True
        if self.override == "full_precision" or (self._stays_float and not self.is_hard):
            return latent
        weights = latent.detach()
        alpha_bar = self.scale_of(weights)
        divisor = None if alpha_bar is None else torch.where(alpha_bar == 0, 1.0, alpha_bar)  # ᾱ = 0 means x = 0
        x = weights if divisor is None else weights / divisor
        if self.is_hard:  # the sign of x would differ where the division underflows
            quantised, alpha, ratio = sign(weights, self.mu), alpha_bar, None
        else:
            quantised = self.pair.forward(x, self.mu)
            alpha, ratio = self._least_squares(weights, quantised, alpha_bar)
        value = quantised if alpha is None else (alpha * quantised).to(latent.dtype)
        mask = self.pair.backward(x, self.mu) != 0 if self.pair.slope == "indicator" else None
        surrogate: Tensor = _Surrogate.apply(latent, value, mask, divisor, ratio, self.mu, self.pair)
        return surrogate

    def scale_of(self, latent: Tensor) -> Tensor | None:
        """ᾱ = mean |w*| per channel or tensor, broadcastable over `latent`; None without scale.

        float32 or wider, whatever the dtype of `latent`.
        """
        if self.scale is None:
            return None
        dims, magnitudes = self._shared_dims(latent), latent.abs().to(_wide(latent))
        return magnitudes.mean(dims, keepdim=True) if dims else magnitudes  # torch takes no dimension for all of them

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
        """Whether it trained by an F of other values than ±1 at a μ that still stands where it began, unscheduled."""
        return (
            self.trained
            and self.sharpness is not None
            and not self.scheduled
            and math.isclose(float(self.mu), self.sharpness.start, rel_tol=1e-2)  # the buffer may be bfloat16
            and self.pair.is_soft()
        )

    def require_plausible_mu(self) -> None:
        """Raise ValueError where μ cannot be meant, as where a loader left it uninitialised."""
        if self.mu.is_meta:
            return
        try:
            self._require_plausible(float(self.mu), f"pair {self.pair.name!r}")
        except ValueError as error:
            raise ValueError(
                f"{error}, which no schedule makes: it was probably never initialised. Load the weights into the float "
                "network first and call binarize() after"
            ) from None

    def _require_plausible(self, mu: float, owner: str) -> None:
        (self.sharpness or Sharpness()).require(mu, owner)
        low, high = PLAUSIBLE
        if not low <= mu <= high:
            raise ValueError(f"{owner} has a sharpness μ = {mu:g} beyond all use")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy begins anew: it has no schedule, and does not stay as `hard()` or `full_precision()` had it."""
        fresh = {"override": None, "scheduled": False, "trained": False}
        super().__setstate__(state | fresh)

    def extra_repr(self) -> str:
        """The pair and the scale."""
        return f"{self.pair.name!r}, scale={self.scale!r}"

    def _least_squares(
        self, latent: Tensor, quantised: Tensor, alpha_bar: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """α = ⟨w*, F⟩/⟨F, F⟩ and α/ᾱ; where ᾱ = 0 the weight is 0 and the ratio 1."""
        if alpha_bar is None:
            return None, None
        dims = self._shared_dims(latent)
        correlation, energy = latent * quantised, quantised.square()
        if dims:
            correlation, energy = correlation.sum(dims, keepdim=True), energy.sum(dims, keepdim=True)
        alpha = correlation / torch.where(energy == 0, 1.0, energy)
        return alpha, torch.where(alpha_bar == 0, 1.0, alpha / alpha_bar)

    def _shared_dims(self, latent: Tensor) -> list[int]:
        channel = self.channel_dim % latent.dim() if self.scale == "channel" and latent.dim() else -1
        return [d for d in range(latent.dim()) if d != channel]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        loaded = state_dict.setdefault(prefix + "mu", self._mu_to_keep())
        if isinstance(loaded, Tensor) and not loaded.is_meta and loaded.numel() == 1:
            try:
                self._require_plausible(float(loaded), f"{prefix}mu, of pair {self.pair.name!r},")
            except ValueError as error:
                error_msgs.append(str(error))
                state_dict[prefix + "mu"] = self.mu
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _mu_to_keep(self) -> Tensor:
        """μ where a state dict has none: the present one, or the usual start where there is no value yet."""
        try:
            self.require_plausible_mu()
        except ValueError:
            pass
        else:
            if not self.mu.is_meta:
                return self.mu
        return torch.tensor(self.sharpness.start if self.sharpness else 1.0, dtype=self.mu.dtype)


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
    """`value` forward, ratio·B_μ(latent/divisor)·g backward.

    Only what B needs is saved: nothing where it is 1, the mask where it is one, else the latent itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        latent: Tensor, value: Tensor, mask: Tensor | None, divisor: Tensor | None, ratio: Tensor | None,
        mu: Tensor, pair: AnyPair,
    ) -> Tensor:  # fmt: skip
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        latent, _, mask, divisor, ratio, mu, ctx.pair = inputs
        if ctx.pair.slope == "any":
            ctx.save_for_backward(ratio, mask, latent, divisor, mu)
        else:
            ctx.save_for_backward(ratio, mask, None, None, None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ratio, factor, latent, divisor, mu = ctx.saved_tensors
        if latent is not None:
            factor = ctx.pair.backward(latent if divisor is None else latent / divisor, mu)
        if ratio is not None:
            factor = ratio if factor is None else factor * ratio  # in float32 or wider, rounded once below
        product = gradient if factor is None else (gradient * factor).to(gradient.dtype)
        return product, None, None, None, None, None, None


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
