"""The sharpness μ as a buffer with a value that is meant, whatever a loader does."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from proxconnect.pairs import AnyPair, Sharpness

PLAUSIBLE = (1e-6, 1e9)
"""Values of μ outside are taken for uninitialised memory."""


class HoldsMu(nn.Module):
    """A module with a pair and its sharpness.

    Args:
        pair: whose domain a given μ must be in.
        sharpness: the usual range of μ here; None where the pair does not depend on it.
        mu: the sharpness; None takes the usual start.

    Raises:
        ValueError: a μ outside the pair's domain.
    """

    mu: Tensor
    """The sharpness, a 0-dim buffer of the state dict. A state dict without it, as a float network's, leaves it as it
    is; one with a value that the pair does not allow is refused."""
    scheduled: bool
    """Whether a `Sharpening` moves μ."""
    trained: bool
    """Whether training used this μ: a pass in `train()` with gradients, or an update rule that takes prox points."""

    def __init__(self, pair: AnyPair, sharpness: Sharpness | None, mu: float | None) -> None:
        super().__init__()
        self.pair, self.sharpness = pair, sharpness
        if mu is None:
            mu = sharpness.start if sharpness else 1.0
        elif pair.sharpness:
            pair.sharpness.require(mu, f"pair {pair.name!r}")
        with torch.inference_mode(False):  # a schedule must be able to move it
            self.register_buffer("mu", torch.tensor(float(mu)))
        self.scheduled = self.trained = False

    def train(self, mode: bool = True) -> Self:
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
