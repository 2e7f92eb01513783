"""The sharpness μ of a quantizer as a buffer: its range, its checks and how it loads."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from proxconnect.pairs import AnyPair, Sharpness
from proxconnect.quantizer.forms import SHARPNESSES


class Sharpened(nn.Module):
    """The base of `Quantizer` that holds μ. `mu=None` takes the fixed μ of `sharpness` or, without one, its start."""

    pair: AnyPair
    sharpness: Sharpness | None
    """The range of μ; None if the pair does not depend on it."""
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
            mu = sharpness.unmoved if sharpness else 1.0
        mu = self.require_mu(mu, f"pair {pair.name!r}")
        with torch.inference_mode(False):  # so that a schedule can move it
            self.register_buffer("mu", torch.tensor(mu))
        self.scheduled = self.trained = False

    def train(self, mode: bool = True) -> Self:
        """Set the mode and return self as torch does; ValueError for a μ outside the pair's domain or [1e-6, 1e9].

        Such a μ was probably never initialised. A μ on the meta device is not checked.
        """
        self.require_plausible_mu()
        return super().train(mode)

    def is_soft_and_unmoved(self) -> bool:
        """Return True if training used a soft F, with μ as it was at first and no schedule: `eval()` changes F then."""
        return (
            self.trained
            and self.sharpness is not None
            and not self.scheduled
            and math.isclose(float(self.mu), self.sharpness.unmoved, rel_tol=1e-2)  # the buffer may be bfloat16
            and self.pair.is_soft()
        )

    def require_mu(self, mu: float, owner: str) -> float:
        """Return μ as a float; ValueError outside the pair's domain or that of the kernels, TypeError for no number."""
        mu = (self.sharpness or Sharpness()).require(mu, owner)
        if not SHARPNESSES[0] <= mu <= SHARPNESSES[1]:
            raise ValueError(f"{owner} has a sharpness μ = {mu:g}, not one from 1e-6 to 1e9")
        return mu

    def require_plausible_mu(self) -> None:
        """Raise ValueError for a μ that `require_mu` refuses, as an uninitialised one; skip a meta μ."""
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
            self.require_mu(mu, owner)
        except ValueError as error:
            return str(error)
        return ""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        start = torch.tensor(self.sharpness.unmoved if self.sharpness else 1.0, dtype=self.mu.dtype)
        has_value = not self.mu.is_meta and not self._fault(float(self.mu), "μ")
        loaded = state_dict.setdefault(prefix + "mu", self.mu if has_value else start)
        is_number = isinstance(loaded, Tensor) and not loaded.is_meta and loaded.numel() == 1
        if is_number and (fault := self._fault(float(loaded), f"{prefix}mu, of pair {self.pair.name!r},")):
            args[-1].append(fault)  # the errors that `load_state_dict` raises together
            state_dict[prefix + "mu"] = self.mu
        super()._load_from_state_dict(state_dict, prefix, *args)
