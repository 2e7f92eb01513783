"""The course of a run, from which certificates are computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = torch.finfo(torch.float64).eps
"""The rounding of a run in float64."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """t steps w*_{τ+1} = w*_τ - η_τ·g_τ of n latents without a scale, as float64 tensors on the CPU.

    Raises ValueError if shapes do not fit, a number is not finite, or a sharpness or learning rate is impossible. It
    does not check that the updates lead from latent to latent: the certificate's identity does.
    """

    latents: Tensor
    """w*_1 to w*_{t+1}, (t+1, n)."""
    mu: Tensor
    """μ_1 to μ_{t+1}, the sharpness of the forward pass at each, (t+1,)."""
    learning_rates: Tensor
    """η_1 to η_t, (t,)."""
    updates: Tensor
    """g_1 to g_t, the vectors that the updates used, (t, n)."""
    gradients: Tensor | None = None
    """∇ℓ at the quantised weights of each step, if known, (t, n)."""
    weights: Tensor | None = None
    """The quantised weights of each forward pass, if known, (t, n)."""
    resolution: float = EXACT
    """The rounding of the run's own arithmetic: the machine epsilon of its dtype."""

    def __post_init__(self) -> None:
        if self.learning_rates.dim() != 1 or self.latents.dim() != 2 or 0 in (*self.learning_rates.shape, self.entries):
            raise ValueError("a Trajectory needs at least one step: latents (t+1, n) and learning_rates (t,)")
        t, n = self.steps, self.entries
        shapes = {"latents": (t + 1, n), "mu": (t + 1,), "updates": (t, n), "gradients": (t, n), "weights": (t, n)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None and tuple(values.shape) != shape:
                raise ValueError(f"{name} of {t} steps of {n} entries have shape {shape}; got {tuple(values.shape)}")
        for name in (*shapes, "learning_rates"):
            if (values := getattr(self, name)) is None:
                continue
            if values.dtype != torch.float64 or values.device.type != "cpu" or values.requires_grad:
                raise ValueError(
                    f"{name} must be a float64 tensor on the CPU without gradient; got {values.dtype} on "
                    f"{values.device}: Trajectory.from_latents converts"
                )
            known = values.isfinite().reshape(len(values), -1).all(1)
            if not bool(known.all()):
                step = int((~known).nonzero()[0]) + 1
                raise ValueError(f"{name} are not finite from step {step} on: the run has diverged")
        if bool((self.mu <= 0).any()) or bool((self.learning_rates < 0).any()):
            raise ValueError("mu must be positive and learning_rates not negative at every step")
        if not bool((self.learning_rates > 0).any()):
            raise ValueError("every learning rate is 0, so that nothing was trained: record a run that moves")

    @property
    def steps(self) -> int:
        """t."""
        return len(self.learning_rates)

    @property
    def entries(self) -> int:
        """n."""
        return self.latents.shape[1]

    @classmethod
    def from_latents(
        cls, latents: Tensor | Sequence[Tensor], learning_rates: Tensor | Sequence[float] | float,
        mu: Tensor | Sequence[float] | float = 1.0, *, gradients: Tensor | Sequence[Tensor] | None = None,
        weights: Tensor | Sequence[Tensor] | None = None, resolution: float = EXACT,
    ) -> "Trajectory":  # fmt: skip
        """Make a trajectory from the latents of any training loop; g follows from their differences.

        Args:
            latents: t+1 tensors or numpy arrays of any shape and float dtype.
            learning_rates: one for each step, or one for all.
            mu: the sharpness at each of the latents, or one for all.
            gradients: ∇ℓ at the quantised weights of each step.
            weights: the quantised weights of each step.
            resolution: the machine epsilon of the dtype that the latents were computed in.

        Raises:
            ValueError: as for the class, or latents move at a learning rate of 0.
        """
        rows = _rows(latents)
        rates, sharpness = _series(learning_rates, len(rows) - 1), _series(mu, len(rows))
        if len(rates) != len(rows) - 1:
            raise ValueError(f"{len(rows)} latents are {len(rows) - 1} steps; got {len(rates)} learning rates")
        moves = rows[:-1] - rows[1:]
        still = rates == 0
        if bool((moves[still] != 0).any()):
            step = int((still[:, None] & (moves != 0)).any(1).nonzero()[0]) + 1
            raise ValueError(
                f"the latents move at step {step}, whose learning rate is 0: g = (w*_t - w*_{{t+1}})/η does not exist. "
                "Leave that step out, or pass the learning rate that it used"
            )
        updates = moves / torch.where(still, 1.0, rates)[:, None]
        gradients, weights = (None if known is None else _rows(known) for known in (gradients, weights))
        return cls(rows, sharpness, rates, updates, gradients, weights, resolution)


def _rows(values: Tensor | Sequence[Tensor]) -> Tensor:
    stacked = values if isinstance(values, Tensor) else torch.stack([torch.as_tensor(row) for row in values])
    if stacked.dim() == 0:
        raise ValueError("one latent is no run: pass the latents of all steps, (t+1, n)")
    return stacked.detach().to("cpu", torch.float64).reshape(len(stacked), -1)


def _series(values: Tensor | Sequence[float] | float, count: int) -> Tensor:
    given = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    return given.repeat(count) if given.dim() == 0 else given
