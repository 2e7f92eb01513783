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
        if fault := self._fault(float(self.mu), f"pair {self.pair.name!r}"):
            raise ValueError(
                f"{fault}, which no schedule makes: it was probably never initialised. Load the weights into the float "
                "network first and call binarize() after"
            )

    def _fault(self, mu: float, owner: str) -> str:
        """Describe why `owner` cannot have this μ; empty if it can."""
        try:
            (self.sharpness or Sharpness()).require(mu, owner)
        except ValueError as error:
            return str(error)
        return "" if PLAUSIBLE[0] <= mu <= PLAUSIBLE[1] else f"{owner} has a sharpness μ = {mu:g} beyond all use"

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        start = torch.tensor(self.sharpness.start if self.sharpness else 1.0, dtype=self.mu.dtype)
        has_value = not self.mu.is_meta and not self._fault(float(self.mu), "μ")
        loaded = state_dict.setdefault(prefix + "mu", self.mu if has_value else start)
        is_number = isinstance(loaded, Tensor) and not loaded.is_meta and loaded.numel() == 1
        if is_number and (fault := self._fault(float(loaded), f"{prefix}mu, of pair {self.pair.name!r},")):
            error_msgs.append(fault)
            state_dict[prefix + "mu"] = self.mu
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
