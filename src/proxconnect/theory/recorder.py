"""Trajectories recorded from any training loop, in bounded memory."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from proxconnect.latents import stepped_layers, takes_effect, unwrapped
from proxconnect.layers import BinaryLayer
from proxconnect.quantizer import Quantizer
from proxconnect.text import some
from proxconnect.theory.trajectory import Trajectory


class Recorder:
    """Records a `Trajectory` of every binary layer that `optimizer` moves, from any training loop.

    `recorder.trajectories()` gives them at any time, of the last `steps` steps and of at most `entries` latents a
    layer, a random choice that stays: every identity of a certificate holds entry by entry, and a window of a run is a
    run. Memory is bounded by that, and a step costs one small copy to the CPU a layer. Nothing of the run is changed.

    w*_t and μ_t are those that the step's first forward pass in `train()` saw (where none is seen, as under
    torch.compile or an accumulator, those before the step), whatever hooks clamp or overwrite them. g_t is
    (w*_t - w*_{t+1})/η_t, whatever the optimizer: with momentum, weight decay, `clip_latents` or an adaptive optimizer
    it is no longer B ⊙ ∇ℓ, and the certificate says so. So it is with rules that overwrite the latents, where the step
    starts from P(w*_t): g_t then holds (w*_t - P(w*_t))/η_t too.

    The gradients are those of what `backward()` was called on, summed over accumulated batches. A GradScaler's factor
    is in them, and a clip of gradients is not. Where one is not known, or a closure was called at several weights,
    the window has none. A pass whose gradient was zeroed before a step, and a step that GradScaler skips, are none.

    Make it at any time before training, and end it by `remove()`, or use it as a context.

    Args:
        optimizer: any optimizer; one that wraps another (Accelerate, Lightning) stands for that one.
        model: the binarized model, its weights without a scale.
        entries: at most so many latents of a layer.
        steps: at most so many steps, the last ones.
        seed: of the choice of entries.

    Raises:
        ValueError: no binary layer, none whose latent the optimizer holds, or one whose weights have a scale: the
            certificate needs α to be constant.
    """

    def __init__(
        self, optimizer: Optimizer, model: nn.Module, *, entries: int = 256, steps: int = 1000, seed: int = 0
    ) -> None:
        if entries < 1 or steps < 1:
            raise ValueError(f"entries and steps must be at least 1; got entries={entries}, steps={steps}")
        self._optimizer = unwrapped(optimizer)
        layers = stepped_layers(self._optimizer, model)
        _require_no_scale(layers)
        group_of = {id(p): i for i, group in enumerate(self._optimizer.param_groups) for p in group["params"]}
        self._tapes = {
            name: _Tape(layer, group_of[id(layer.latent)], _chosen(layer, entries, f"{seed} {name}"), steps)
            for name, layer in layers.items()
        }
        # The hooks of all optimizers run before and after those of this one, which may overwrite, clamp or move μ.
        self._hooks = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def trajectories(self) -> dict[str, Trajectory]:
        """What is recorded so far, by qualified name of the layer; RuntimeError before the first step."""
        return {name: tape.trajectory() for name, tape in self._tapes.items()}

    def entries(self) -> dict[str, Tensor]:
        """Which entries of the flattened latent are recorded, ascending, by name of the layer."""
        return {name: tape.index.cpu() for name, tape in self._tapes.items()}

    def remove(self) -> None:
        """Record nothing more; what is recorded stays."""
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


class _Tape:
    """What is kept of one layer, and what its quantizer did since the last step."""

    def __init__(self, layer: BinaryLayer, group: int, index: Tensor, steps: int) -> None:
        self.layer, self.group, self.index = layer, group, index
        self.latent = layer.latent  # what the optimizer holds
        self.latents: deque[Tensor] = deque(maxlen=steps + 1)
        self.mu: deque[float] = deque(maxlen=steps + 1)
        self.rates: deque[float] = deque(maxlen=steps)
        self.passes: deque[_Pass | None] = deque(maxlen=steps)
        self.seen: _Pass | None = None
        self.rate: float | None = None  # of a step that has begun
        self._hook = layer.weight_quantizer.register_forward_hook(self._observe)

    def before_step(self, optimizer: Optimizer) -> None:
        """The place of the step; what others wrote since the last one counts as part of that."""
        latent, mu = (self.seen.latent, self.seen.mu) if self.seen else self._now()
        if self.latents:
            self.latents[-1], self.mu[-1] = latent, mu
        else:
            self._append(latent, mu)
        self.rate = float(optimizer.param_groups[self.group]["lr"])

    def after_step(self) -> None:
        """Where the step led, and what it saw."""
        if self.rate is None:
            return
        self.rates.append(self.rate)
        self.passes.append(self.seen)
        self._append(*self._now())
        self.forget()

    def forget(self) -> None:
        """Begin the next step: what was seen listens no more."""
        if self.seen is not None:
            self.seen.close()
        self.seen = self.rate = None

    def trajectory(self) -> Trajectory:
        """The window so far."""
        if not self.passes:
            raise RuntimeError("no step is recorded yet: call trajectories() after optimizer.step()")
        passes = list(self.passes)
        gradients = [p.gradient for p in passes if p and p.gradient is not None and bool(p.gradient.isfinite().all())]
        weights = [p.weight for p in passes if p]
        return Trajectory.from_latents(
            list(self.latents), list(self.rates), list(self.mu),
            gradients=gradients if len(gradients) == len(passes) else None,
            weights=weights if len(weights) == len(passes) else None,
            resolution=torch.finfo(self.layer.latent.dtype).eps,
        )  # fmt: skip

    def remove(self) -> None:
        """Leave no hook on the layer."""
        self._hook.remove()
        self.forget()

    def _observe(self, quantizer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.compiler.is_compiling() or not (quantizer.training and output.requires_grad):
            return
        assert isinstance(quantizer, Quantizer)
        if self._was_dropped():
            self.forget()
        latent = self._sample(args[0])
        if self.seen is None:
            self.seen = _Pass(latent, float(quantizer.mu), self._sample(output))
        elif not torch.equal(latent, self.seen.latent):
            self.seen.is_single = False
        self.seen.listen(output, self._sample)

    def _was_dropped(self) -> bool:
        """Whether the gradient of what was seen was zeroed before a step took it, as where GradScaler skips one."""
        return self.seen is not None and self.seen.summed is not None and self.rate is None and self.latent.grad is None

    def _now(self) -> tuple[Tensor, float]:
        return self._sample(self.layer.latent), float(self.layer.weight_quantizer.mu)

    def _append(self, latent: Tensor, mu: float) -> None:
        self.latents.append(latent)
        self.mu.append(mu)

    def _sample(self, values: Tensor) -> Tensor:
        """The chosen entries, float64 on the CPU."""
        self.index = self.index.to(values.device)
        return values.detach().reshape(-1)[self.index].to("cpu", torch.float64)


class _Pass:
    """What the first forward pass of a step saw, and the gradient that came back to it and to those after it."""

    def __init__(self, latent: Tensor, mu: float, weight: Tensor) -> None:
        self.latent, self.mu, self.weight = latent, mu, weight
        self.summed: Tensor | None = None
        self.is_single = True
        self._is_open = True
        self._leaf_hook: RemovableHandle | None = None

    @property
    def gradient(self) -> Tensor | None:
        """∇ℓ at `weight`; None where it is not known."""
        return self.summed if self.is_single else None

    def listen(self, output: Tensor, sample: Callable[[Tensor], Tensor]) -> None:
        """Add the gradients that come back to `output`."""

        def add(gradient: Tensor) -> None:
            if self._is_open:
                self.summed = sample(gradient) if self.summed is None else self.summed + sample(gradient)

        if not output.is_leaf:
            output.register_hook(add)
        elif self._leaf_hook is None:  # in full precision: the latent itself, which stays, and sees every pass
            self._leaf_hook = output.register_hook(add)

    def close(self) -> None:
        """Add nothing more, whatever is still called on an old graph."""
        self._is_open = False
        if self._leaf_hook is not None:
            self._leaf_hook.remove()
            self._leaf_hook = None


def _require_no_scale(layers: dict[str, BinaryLayer]) -> None:
    scaled = [
        name
        for name, layer in layers.items()
        if layer.weight_quantizer.scale is not None and not layer.weight_quantizer.pair.is_identity
    ]
    if scaled:
        raise ValueError(
            f"the weights of {some(scaled)} have a scale α that moves with them, and a certificate needs it constant: "
            "call binarize(model, ..., scale=None)"
        )


def _chosen(layer: BinaryLayer, entries: int, seed: str) -> Tensor:
    """At most `entries` indices into the flattened latent, without a permutation of all of them."""
    count = layer.latent.numel()
    return torch.tensor(sorted(Random(seed).sample(range(count), min(count, entries))))
