"""The sharpness μ as a buffer that no loader leaves uninitialised."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from proxconnect.pairs import AnyPair, Sharpness

PLAUSIBLE = (1e-6, 1e9)
"""Values of μ outside this range count as uninitialised memory."""


class HoldsMu(nn.Module):
    """A module with a pair and its sharpness.

    Args:
        pair: the pair.
        sharpness: the usual range of μ; None if the pair does not depend on μ.
        mu: the sharpness; None takes the usual start.

    Raises:
        ValueError: μ lies outside the pair's domain.
    """

    mu: Tensor
    """The sharpness, a 0-dim buffer of the state dict. A float network's state dict lacks it and leaves it as it is; a
    value that the pair does not allow is refused."""
    scheduled: bool
    """True if a `Sharpening` moves μ."""
    trained: bool
    """True if training used this μ: a pass in `train()` with gradients, or an update rule that takes prox points."""

    def __init__(self, pair: AnyPair, sharpness: Sharpness | None, mu: float | None) -> None:
        super().__init__()
        self.pair, self.sharpness = pair, sharpness
        if mu is None:
            mu = sharpness.start if sharpness else 1.0
        elif pair.sharpness:
            pair.sharpness.require(mu, f"pair {pair.name!r}")
        with torch.inference_mode(False):  # so that a schedule can move it
            self.register_buffer("mu", torch.tensor(float(mu)))
        self.scheduled = self.trained = False

    def train(self, mode: bool = True) -> Self:
        """Set the mode as torch does; ValueError if a loader left μ uninitialised."""
        self.require_plausible_mu()
        return super().train(mode)

    def is_soft_and_unmoved(self) -> bool:
        """Return True if training used a soft F at a μ that no schedule moves and that is still at its start."""
        return (
            self.trained
            and self.sharpness is not None
            and not self.scheduled
            and math.isclose(float(self.mu), self.sharpness.start, rel_tol=1e-2)  # the buffer may be bfloat16
            and self.pair.is_soft()
        )

    def require_plausible_mu(self) -> None:
        """Raise ValueError for a μ that no schedule makes; a loader probably left it uninitialised."""
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
        """Return the present μ for a state dict without one, or the usual start if μ has no value yet."""
        start = torch.tensor(self.sharpness.start if self.sharpness else 1.0, dtype=self.mu.dtype)
        try:
            self.require_plausible_mu()
        except ValueError:
            return start
        return start if self.mu.is_meta else self.mu
