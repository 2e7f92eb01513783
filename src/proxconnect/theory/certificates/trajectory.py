"""Trajectories, from which certificates are computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect._support.arguments import positive, require_type


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A recorded run: t steps w*_{τ+1} = w*_τ - η_τ·g_τ of n latents without a scale, as float64 tensors on the CPU.

    Make it with `Trajectory.from_latents` or a `Recorder`, and pass it to `certificate`. Raises ValueError for
    values that no such run has, as a wrong shape or dtype, or NaN. TypeError if a field has another type.
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
    resolution: float = 2.0**-52
    """The machine epsilon of the dtype that the run computed in, by default of float64."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "resolution", positive(self.resolution, "resolution"))
        for name in ("latents", "mu", "learning_rates", "updates"):
            require_type(getattr(self, name), Tensor, f"{name} takes a float64 tensor")
        for name in ("gradients", "weights"):
            require_type(getattr(self, name), Tensor | None, f"{name} takes a float64 tensor or None")
        if self.learning_rates.dim() != 1 or self.latents.dim() != 2 or 0 in (*self.learning_rates.shape, self.entries):
            raise ValueError("a Trajectory needs at least one step: latents (t+1, n) and learning_rates (t,)")
        t, n = self.steps, self.entries
        shapes = {"latents": (t + 1, n), "mu": (t + 1,), "updates": (t, n), "gradients": (t, n), "weights": (t, n)}
        for name, shape in {"learning_rates": (t,), **shapes}.items():
            if (values := getattr(self, name)) is None:
                continue
            if tuple(values.shape) != shape:
                raise ValueError(f"{name} of {t} steps of {n} entries have shape {shape}; got {tuple(values.shape)}")
            if values.dtype != torch.float64 or values.device.type != "cpu" or values.requires_grad:
                raise ValueError(
                    f"{name} must be a float64 tensor on the CPU without gradient; got {values.dtype} on "
                    f"{values.device}: Trajectory.from_latents converts"
                )
            known = values.isfinite().reshape(len(values), -1).all(1)
            if not bool(known.all()):
                step = int((~known).nonzero()[0]) + 1
                raise ValueError(f"{name} are NaN or infinite from step {step} on: the run has diverged")
        if bool((self.mu <= 0).any()) or bool((self.learning_rates < 0).any()):
            raise ValueError("mu must be positive and learning_rates not negative at every step")
        if not bool((self.learning_rates > 0).any()):
            raise ValueError("every learning rate is 0, so that nothing was trained: record a run that moves")

    @property
    def steps(self) -> int:
        """The number of steps t."""
        return len(self.learning_rates)

    @property
    def entries(self) -> int:
        """The number of latents n."""
        return self.latents.shape[1]

    @classmethod
    def from_latents(
        cls, latents: Tensor | Sequence[Tensor], learning_rates: Tensor | Sequence[float] | float,
        mu: Tensor | Sequence[float] | float = 1.0, *, gradients: Tensor | Sequence[Tensor] | None = None,
        weights: Tensor | Sequence[Tensor] | None = None, resolution: float = 2.0**-52,
    ) -> "Trajectory":  # fmt: skip
        """Make a trajectory from the latents of any training loop; their differences over η give g.

        Args:
            latents: t+1 tensors or numpy arrays of one shape, or a stack of them, of any float dtype.
            learning_rates: one for each step, or one for all.
            mu: the sharpness at each of the latents, or one for all.
            gradients: ∇ℓ at the quantised weights of each step.
            weights: the quantised weights of each step.
            resolution: the machine epsilon of the dtype that the latents were computed in.

        Raises:
            ValueError: as for the class, or latents move at a learning rate of 0.
            TypeError: an argument is no tensor, number or list of them, or the shapes in a list differ.
        """
        rows = _rows(latents, "latents")
        rates, sharpness = _series(learning_rates, "learning_rates", len(rows) - 1), _series(mu, "mu", len(rows))
        if tuple(rates.shape) != (len(rows) - 1,):
            given = " × ".join(map(str, rates.shape))
            raise ValueError(f"{len(rows)} latents are {len(rows) - 1} steps; got {given} learning rates")
        moves = rows[:-1] - rows[1:]
        still = rates == 0
        if bool((moves[still] != 0).any()):
            step = int((still[:, None] & (moves != 0)).any(1).nonzero()[0]) + 1
            raise ValueError(
                f"the latents move at step {step}, whose learning rate is 0: g = (w*_t - w*_{{t+1}})/η does not exist. "
                "Leave that step out, or pass the learning rate that it used"
            )
        updates = moves / torch.where(still, 1.0, rates)[:, None]
        gradients = None if gradients is None else _rows(gradients, "gradients")
        weights = None if weights is None else _rows(weights, "weights")
        return cls(rows, sharpness, rates, updates, gradients, weights, resolution)


def _rows(values: Tensor | Sequence[Tensor], name: str) -> Tensor:
    try:
        rows = values if isinstance(values, Tensor) else [torch.as_tensor(row) for row in values]
        stacked = rows if isinstance(rows, Tensor) else torch.stack(rows) if rows else torch.empty(0)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} takes a tensor, or a list of them of one shape; got {type(values).__name__}"
        ) from error
    if stacked.dim() == 0:
        raise ValueError("one latent is no run: pass the latents of all steps, (t+1, n)")
    if not len(stacked):
        raise ValueError(f"{name} are empty: a Trajectory needs at least one step")
    return stacked.detach().to("cpu", torch.float64).reshape(len(stacked), -1)


def _series(values: Tensor | Sequence[float] | float, name: str, count: int) -> Tensor:
    try:
        given = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} takes a number, or a list of them; got {type(values).__name__}") from error
    return given.repeat(count) if given.dim() == 0 else given
