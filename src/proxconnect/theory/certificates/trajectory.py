"""Trajectories, from which certificates are computed, and their recorder for any training loop."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from proxconnect._support.arguments import positive, require_type, whole
from proxconnect._support.text import some
from proxconnect.layers import BinaryLayer
from proxconnect.optim.latents import require_learning_rates, stepped_layers, takes_effect, unwrapped
from proxconnect.quantizer import Quantizer


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


class Recorder:
    """A recorder of the `Trajectory` of every binary layer that `optimizer` moves, for any training loop.

    Make it before training, and end it by `remove()`, or use it as a context. Call `trajectories()` at any time for the
    last `steps` steps of at most `entries` latents a layer. The latents are chosen at random once, since every identity
    of a certificate holds entry by entry. A step costs a few small copies to the CPU a layer. The run does not change.

    - w*_t and μ_t are those of the step's first forward pass in `train()` with gradients, whatever hooks clamp or
      overwrite. If no pass is seen, as with torch.compile or an accumulator, they are those before the step.
    - g_t is (w*_t - w*_{t+1})/η_t for any optimizer. With momentum, weight decay, `clip_latents` or an adaptive
      optimizer it is not B ⊙ ∇ℓ, and the certificate says so. If a rule overwrites the latents, g_t includes that.
    - Gradients are those of the loss that `backward()` was called on, summed over accumulated batches. A GradScaler's
      factor is in them; clipping is not. All are left out if one is unknown or not finite, or
      if a closure ran at several weights.
    - A pass whose gradient was zeroed before a step is no step. A step that GradScaler skips is none, either.

    Args:
        optimizer: any optimizer; a wrapper (Accelerate, Lightning) stands for the optimizer in it.
        model: the binarized model, its weights without a scale.
        entries: the most latents to record of a layer.
        steps: the most steps to keep, the last ones.
        seed: the seed of the choice of latents.

    Raises:
        ValueError: there is no binary layer, the optimizer holds none of their latents, a latent is sharded (FSDP2),
            `entries` or `steps` is below 1, or weights have a scale: the certificate needs α to be constant.
        TypeError: `entries`, `steps` or `seed` is no whole number.
    """

    def __init__(
        self, optimizer: Optimizer, model: nn.Module, *, entries: int = 256, steps: int = 1000, seed: int = 0
    ) -> None:
        entries, steps, seed = whole(entries, "entries", 1), whole(steps, "steps", 1), whole(seed, "seed")
        self._optimizer = unwrapped(optimizer)
        layers = stepped_layers(self._optimizer, model)
        quantizers = {name: layer.weight_quantizer for name, layer in layers.items()}
        scaled = [name for name, q in quantizers.items() if q.scale is not None and not q.pair.is_identity]
        if scaled:
            raise ValueError(
                f"the weights of {some(scaled)} have a scale α that moves with them, and a certificate needs it "
                "constant: call binarize(model, ..., scale=None)"
            )
        sharded = [name for name, layer in layers.items() if hasattr(layer.latent, "to_local")]
        if sharded:
            raise ValueError(
                f"the latents of {some(sharded)} are sharded, and a trajectory is of whole ones: record a run of the "
                "same model in one process, or under DistributedDataParallel"
            )
        group_of = {id(p): i for i, group in enumerate(self._optimizer.param_groups) for p in group["params"]}
        held_in = {group_of[id(layer.latent)] for layer in layers.values()}
        require_learning_rates(self._optimizer, held_in, "a trajectory")
        self._tapes = {}
        for name, layer in layers.items():
            every = range(layer.latent.numel())
            index = torch.tensor(sorted(Random(f"{seed} {name}").sample(every, min(len(every), entries))))
            self._tapes[name] = _Tape(layer, group_of[id(layer.latent)], index, steps)
        # The hooks of all optimizers run before and after those of this one, which may overwrite, clamp or move μ.
        self._hooks = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def trajectories(self) -> dict[str, Trajectory]:
        """Return the `Trajectory` of each layer by name; RuntimeError before a step, ValueError as `from_latents`."""
        return {name: tape.trajectory() for name, tape in self._tapes.items()}

    def entries(self) -> dict[str, Tensor]:
        """Return the indices of the recorded entries of each flattened latent, ascending, by name of the layer."""
        return {name: tape.index.cpu() for name, tape in self._tapes.items()}

    def remove(self) -> None:
        """Stop recording by removing the recorder's hooks; `trajectories()` still returns the recorded steps."""
        for hook in self._hooks:
            hook.remove()
        for tape in self._tapes.values():
            tape.remove()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if optimizer is self._optimizer:
            is_step = takes_effect(optimizer, kwargs)
            for tape in self._tapes.values():
                if is_step:
                    tape.before_step(optimizer)
                else:
                    tape.forget()

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if optimizer is self._optimizer:
            for tape in self._tapes.values():
                tape.after_step()


@dataclass(eq=False)
class _Step:
    """One step: w*_t and μ_t of its first forward pass, and the sum of the gradients of that and of later passes."""

    latent: Tensor
    mu: float
    weight: Tensor | None = None
    """None if no pass was seen."""
    gradient: Tensor | None = None
    """∇ℓ at `weight`; None without `backward()`."""
    is_single: bool = True
    """False if later passes were at other weights, so that the gradient is not that at `weight`."""
    rate: float = nan
    """η_t, known once the step is taken."""


class _Tape:
    """The last steps of one layer, and the forward pass of its quantizer since the last step."""

    def __init__(self, layer: BinaryLayer, group: int, index: Tensor, steps: int) -> None:
        self.layer, self.group, self.index = layer, group, index
        self.latent = layer.latent  # the parameter that the optimizer holds
        self.steps: deque[_Step] = deque(maxlen=steps)
        self.here = self._now()
        self.seen: _Step | None = None
        self.rate: float | None = None  # η of a step that has begun
        self._hook = layer.weight_quantizer.register_forward_hook(self._observe)
        self._leaf_hook: RemovableHandle | None = None

    def before_step(self, optimizer: Optimizer) -> None:
        """Note η, and w* and μ of the first forward pass since the last step, or the present ones if none was seen."""
        self.here = self.seen or self._now()
        self.rate = float(optimizer.param_groups[self.group]["lr"])

    def after_step(self) -> None:
        if self.rate is not None:
            here = self.here
            self.steps.append(replace(self.seen or here, latent=here.latent, mu=here.mu, rate=self.rate))
            self.here = self._now()
            self.forget()

    def forget(self) -> None:
        """Discard the forward pass seen since the last step, and let its gradients count no more."""
        self.seen = self.rate = None
        if self._leaf_hook is not None:
            self._leaf_hook.remove()
            self._leaf_hook = None

    def trajectory(self) -> Trajectory:
        if not self.steps:
            raise RuntimeError("no step is recorded yet: call trajectories() after optimizer.step()")
        points, count = [*self.steps, self.here], len(self.steps)
        weights = [step.weight for step in self.steps if step.weight is not None]
        gradients = [step.gradient for step in self.steps if step.is_single and step.gradient is not None]
        is_known = len(gradients) == count and all(bool(gradient.isfinite().all()) for gradient in gradients)
        return Trajectory.from_latents(
            [point.latent for point in points],
            [step.rate for step in self.steps],
            [point.mu for point in points],
            gradients=gradients if is_known else None,
            weights=weights if len(weights) == count else None,
            resolution=torch.finfo(self.layer.latent.dtype).eps,
        )

    def remove(self) -> None:
        self._hook.remove()
        self.forget()

    def _observe(self, quantizer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.compiler.is_compiling() or not (quantizer.training and output.requires_grad):
            return
        assert isinstance(quantizer, Quantizer)
        if self.seen and self.seen.gradient is not None and self.rate is None and self.latent.grad is None:
            self.forget()  # its gradient was zeroed before a step took it, as when GradScaler skips one
        latent = self._sample(args[0])
        if self.seen is None:
            self.seen = _Step(latent, float(quantizer.mu), self._sample(output))
        elif not torch.equal(latent, self.seen.latent):
            self.seen.is_single = False
        seen = self.seen

        def add(gradient: Tensor) -> None:
            if self.seen is seen:  # else it is forgotten
                seen.gradient = self._sample(gradient) + (0.0 if seen.gradient is None else seen.gradient)

        if not output.is_leaf:
            output.register_hook(add)
        elif self._leaf_hook is None:  # in full precision: the latent itself, which stays, and sees every pass
            self._leaf_hook = output.register_hook(add)

    def _now(self) -> _Step:
        return _Step(self._sample(self.layer.latent), float(self.layer.weight_quantizer.mu))

    def _sample(self, values: Tensor) -> Tensor:
        """Return the chosen entries, float64 on the CPU."""
        self.index = self.index.to(values.device)
        return values.detach().reshape(-1)[self.index].to("cpu", torch.float64)
