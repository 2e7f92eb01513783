"""The recorder of trajectories in any training loop."""

from collections import deque
from dataclasses import dataclass, replace
from math import nan
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from proxconnect._support.arguments import whole
from proxconnect._support.text import some
from proxconnect.layers import BinaryLayer
from proxconnect.optim.latents import require_learning_rates, skipped, stepped_layers, takes_effect, unwrapped
from proxconnect.quantizer import Quantizer
from proxconnect.theory.certificates.trajectory import Trajectory


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
            is_step = takes_effect(optimizer, kwargs) and not skipped(optimizer)
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
        if self.seen and self.seen.gradient is not None and self.rate is None and _is_zeroed(self.latent.grad):
            self.forget()  # no step took its gradient, as when GradScaler skips one
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


def _is_zeroed(gradient: Tensor | None) -> bool:
    return gradient is None or not bool(gradient.any())
