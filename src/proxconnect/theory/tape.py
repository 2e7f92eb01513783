"""What a recorder keeps of one layer: the last steps of its latents, and what its quantizer did in each."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from proxconnect.layers import BinaryLayer
from proxconnect.quantizer import Quantizer
from proxconnect.theory.trajectory import Trajectory


class Tape:
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
