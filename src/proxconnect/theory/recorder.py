"""Trajectories recorded from any training loop, in bounded memory."""

from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from proxconnect._support.text import some
from proxconnect.layers import BinaryLayer
from proxconnect.optim.latents import stepped_layers, takes_effect, unwrapped
from proxconnect.theory.tape import Tape
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
        ValueError: no binary layer, none whose latent the optimizer holds, one whose latent is sharded (FSDP2), or one
            whose weights have a scale: the certificate needs α to be constant.
    """

    def __init__(
        self, optimizer: Optimizer, model: nn.Module, *, entries: int = 256, steps: int = 1000, seed: int = 0
    ) -> None:
        if entries < 1 or steps < 1:
            raise ValueError(f"entries and steps must be at least 1; got entries={entries}, steps={steps}")
        self._optimizer = unwrapped(optimizer)
        layers = stepped_layers(self._optimizer, model)
        _require_no_scale(layers)
        _require_whole(layers)
        group_of = {id(p): i for i, group in enumerate(self._optimizer.param_groups) for p in group["params"]}
        self._tapes = {
            name: Tape(layer, group_of[id(layer.latent)], _chosen(layer, entries, f"{seed} {name}"), steps)
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


def _require_whole(layers: dict[str, BinaryLayer]) -> None:
    sharded = [name for name, layer in layers.items() if hasattr(layer.latent, "to_local")]
    if sharded:
        raise ValueError(
            f"the latents of {some(sharded)} are sharded, and a trajectory is of whole ones: record a run of the same "
            "model in one process, or under DistributedDataParallel"
        )


def _chosen(layer: BinaryLayer, entries: int, seed: str) -> Tensor:
    """At most `entries` indices into the flattened latent, without a permutation of all of them."""
    count = layer.latent.numel()
    return torch.tensor(sorted(Random(seed).sample(range(count), min(count, entries))))
