"""Bop, an optimizer that flips binary weights instead of moving latents; another optimizer steps all else."""

import math
from collections.abc import Callable, Iterable
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from proxconnect._support.arguments import number, require_callable, require_type
from proxconnect.layers import BinaryLayer
from proxconnect.optim.latents import owners


class Bop(Optimizer):
    """An optimizer that flips a binary weight if the average of its gradients has its sign and exceeds a threshold.

    m ← (1 - γ)·m + γ·g, and w ← -w if |m| > τ and sign(m) = sign(w). A weight is the sign of its latent, as in the pair
    "bc". A flip negates the latent, so its magnitude and the scale stay. Nothing else moves a latent, not even weight
    decay, except that 0 becomes a tiny positive number, and a NaN or infinite gradient makes it NaN.

    Binarize (and shard) the model first, because the living binary layers tell which of the `params` are latents. A
    group that holds both is split in two, the latents' first. The learning rate of a latents' group is γ, so schedules
    of learning rates move γ, as in the paper; its "threshold" is τ. There is one state dict.

    Args:
        params: parameters or groups, as in any optimizer. The keys "gamma" and "threshold" of a group are for its
            latents, all other keys for the rest.
        others: a callable that makes the optimizer of the other parameters from groups, such as
            `functools.partial(torch.optim.AdamW, lr=3e-3)`; None makes an Adam. Its `step` gets no closure.
        threshold: τ, in the units of gradients.
        gamma: γ, the weight of the newest gradient.

    Raises:
        ValueError: no latent is among `params`; a latent has another pair than "bc", or 16 bits, which cannot hold the
            average; the threshold is below 0 or not finite, or γ lies outside (0, 1].
        TypeError: an argument has another type.

    Source: Helvegen 2019 (arXiv 1906.02107), with the defaults of larq, in which weights have no scale.

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(2, 1, bias=False)), "bc", keep=None, scale=None)
        >>> model[0].weight = torch.tensor([[0.3, -0.2]])
        >>> optimizer = pc.Bop(model.parameters(), threshold=0.1, gamma=0.5)
        >>> model(torch.tensor([1.0, 1.0])).backward()
        >>> optimizer.step()
        >>> model[0].latent.data  # the first has the sign of its gradient
        tensor([[-0.3000, -0.2000]])
    """

    others: Optimizer | None
    """The optimizer of the parameters that are no latents; None without any."""

    def __init__(
        self, params: Iterable[Any], others: Callable[[list[dict[str, Any]]], Optimizer] | None = None, *,
        threshold: float = 1e-8, gamma: float = 1e-4,
    ) -> None:  # fmt: skip
        require_type(params, Iterable, "params takes parameters or groups of them, as model.parameters()")
        if others is not None:
            require_callable(others, "others takes what makes an optimizer from parameter groups, as "
                             "functools.partial(torch.optim.AdamW, lr=3e-3)")  # fmt: skip
        self.others = None
        self._make_others = others or torch.optim.Adam
        self._usual = {"gamma": gamma, "threshold": threshold}
        super().__init__(params, {})
        if not any(_is_of_latents(group) for group in self.param_groups):
            raise ValueError(
                "none of these parameters is the latent of a binary layer: call proxconnect.binarize(model, "
                "weights='bc') first, and make Bop from model.parameters() after"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, or raise as the constructor does; a group of latents and others becomes two."""
        super().add_param_group(param_group)
        whole = self.param_groups.pop()
        settings = {key: number(whole.pop(key, usual), key) for key, usual in self._usual.items()}
        latents = owners(whole["params"])
        flipped, rest = (_part(whole, [(p in latents) is chosen for p in whole["params"]]) for chosen in (True, False))
        if latents:
            _require_sense(latents, **settings)
            self.param_groups.append({**flipped, "lr": settings["gamma"], "threshold": settings["threshold"]})
        if rest["params"]:
            if self.others is None:
                self.others = self._make_others([rest])  # shares its groups and state with this one
                self.state.update(self.others.state)
                self.others.state = self.state
            else:
                self.others.add_param_group(rest)
            self.param_groups.append(self.others.param_groups[-1])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # has overloads
        """Average gradients and flip latents by them, step `others`, and return the loss of `closure`, called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in filter(_is_of_latents, self.param_groups):
            for latent in group["params"]:
                if latent.grad is not None:
                    self._flip(latent, group["lr"], group["threshold"])
        if self.others is not None:
            self.others.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does; ValueError for the state of another optimizer, by which no latent would flip."""
        groups = state_dict["param_groups"]
        if [*map(_is_of_latents, groups)] != [*map(_is_of_latents, self.param_groups)]:
            raise ValueError(
                "this state was not made by a Bop of the same parameters, so latents would not flip: load it into the "
                "optimizer that made it, or start Bop without it"
            )
        super().load_state_dict(state_dict)

    def _flip(self, latent: Tensor, gamma: float, threshold: float) -> None:
        state = self.state[latent]
        if not state:
            state["average"] = torch.zeros_like(latent, memory_format=torch.preserve_format)
            latent.copy_(torch.where(latent == 0, torch.finfo(latent.dtype).tiny, latent))  # 0 has no opposite
        average = state["average"].lerp_(latent.grad, gamma)
        latent.copysign_(torch.where(average.abs() > threshold, -average, latent))  # a flip, or the sign that it has
        latent.add_(average - average)  # NaN if the average is NaN or infinite: the weight would never flip again

    def __getstate__(self) -> dict[str, Any]:
        own = ("others", "_make_others", "_usual")
        return super().__getstate__() | {name: getattr(self, name) for name in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load as torch does, then share the groups and the state again."""
        super().__setstate__(state)
        if self.others is not None:
            groups = [group for group in self.param_groups if not _is_of_latents(group)]
            self.others.__setstate__({"state": self.state, "param_groups": groups})


def _is_of_latents(group: dict[str, Any]) -> bool:
    return "threshold" in group


def _part(group: dict[str, Any], chosen: list[bool]) -> dict[str, Any]:
    """Return the group with the chosen parameters, and their names if it has names."""
    return group | {key: list(compress(group[key], chosen)) for key in ("params", "param_names") if key in group}


def _require_sense(latents: dict[Tensor, BinaryLayer], gamma: float, threshold: float) -> None:
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must be above 0 and at most 1; got {gamma}")
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be finite and not below 0; got {threshold}")
    for latent, layer in latents.items():
        pair = layer.weight_quantizer.pair
        if not pair.is_sign or pair.slope != "one":
            raise ValueError(
                f"Bop flips weights that are signs and take their own gradient, as by the pair 'bc'; a latent of shape "
                f"{tuple(latent.shape)} is quantised by {pair.name!r}: call proxconnect.binarize(model, weights='bc')"
            )
        if latent.dtype.itemsize < 4:
            raise ValueError(
                f"Bop averages gradients by small weights, which {latent.dtype} rounds away: keep the parameters in "
                "float32 and run the model under torch.autocast"
            )
