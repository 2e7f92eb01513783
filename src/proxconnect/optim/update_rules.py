"""Update rules other than PC++: the point of the gradient, and the point where the step starts.

    rule                   gradient at   step from
    PC++, without a rule   F(w*)         w*
    proxquant              F(w*)         ᾱ·P(w*/ᾱ)
    reverse_proxconnect    w*            ᾱ·P(w*/ᾱ)
    post_training          w*            w*

Two switches make a rule: the forward pass of `train()` quantises or not (then B = 1), and prox points overwrite the
latents, between the backward pass and the step, or not.
"""

from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from proxconnect._support.arguments import boolean
from proxconnect.layers import BinaryLayer
from proxconnect.layers.living import RULE
from proxconnect.optim.latents import skipped, stepped_layers, takes_effect, unwrapped
from proxconnect.pairs import Pair, prox
from proxconnect.quantizer import Quantizer

_NAMES = {(True, True): "proxquant", (False, True): "reverse_proxconnect", (False, False): "post_training"}
_attached: "WeakSet[Optimizer]" = WeakSet()
_latest: "WeakKeyDictionary[Quantizer, int]" = WeakKeyDictionary()
"""The `id` of the rule that was made last for a quantizer: the one that holds, if several optimizers have rules."""


class UpdateRule:
    """An update rule other than PC++, by two switches; `proxquant`, `reverse_proxconnect` and `post_training` make it.

    If `overwrites`, prox points with the μ before the step overwrite the latents that the optimizer will move: none
    without a gradient, and none in a step that GradScaler skips. With a closure this happens after its first evaluation
    in each step, so that evaluation has the gradient of the old latent. Weight decay acts on the point where the step
    starts.

    The name of the rule is in `optimizer.param_groups[0]`, so an optimizer of another rule refuses a saved state. A
    copy of the model has neither the rule nor the schedule.

    Args:
        optimizer: any optimizer, or a wrapper of Accelerate or Lightning. The rule acts on the layers whose latents
            this optimizer holds; make one rule per optimizer.
        model: the binarized model.
        quantises: True if the forward pass of `train()` quantises the weights. If not, no accumulator acts. `eval()` is
            hard in both cases, and activations are quantised as before.
        overwrites: True if a step starts from ᾱ·P(w*/ᾱ), with P of the layer's pair.

    Raises:
        ValueError: the model has no binary layer; the optimizer holds none of their latents, has a rule already, or has
            the state of another rule; a pair without a prox would overwrite latents; the forward pass would not use a
            learned scale; or the switches are PC++ itself.
        TypeError: an argument has another type.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module, *, quantises: bool, overwrites: bool) -> None:
        quantises, overwrites = boolean(quantises, "quantises"), boolean(overwrites, "overwrites")
        if (quantises, overwrites) not in _NAMES:
            raise ValueError("to quantise and overwrite nothing is PC++ itself, which needs no rule: leave it out")
        self.optimizer = optimizer = unwrapped(optimizer)
        self.name = _NAMES[quantises, overwrites]
        self.quantises, self.overwrites = quantises, overwrites
        layers = stepped_layers(optimizer, model)
        self._require_fitting(layers)
        named = optimizer.param_groups[0].setdefault(RULE, self.name)
        if optimizer in _attached:
            raise ValueError(f"this optimizer already has an update rule, {named}: call its remove() first")
        if named != self.name:
            raise ValueError(
                f"the state of this optimizer was made by {named}: call proxconnect.{named}(optimizer, model), or "
                f"delete optimizer.param_groups[0][{RULE!r}] to go on by {self.name}"
            )
        _attached.add(optimizer)
        self._quantizers = [layer.weight_quantizer for layer in layers.values()]
        # Keep the parameters that the optimizer holds, because FSDP2 replaces those of the layers between two steps.
        # P = id would move nothing, and only add the rounding errors of ᾱ·(w*/ᾱ).
        moved = (m for m in layers.values() if getattr(m.weight_quantizer.pair, "prox", prox.identity) != prox.identity)
        self._overwritten = {layer.latent: layer for layer in moved if overwrites}
        for quantizer in self._quantizers:
            quantizer.ruled, quantizer.trains_latent = True, not quantises
            _latest[quantizer] = id(self)
        self._hooks: tuple[RemovableHandle, ...] = (
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_load_state_dict_pre_hook(self._before_load),
        )

    def remove(self) -> None:
        """Return to PC++: the forward pass quantises again, and nothing overwrites latents, which keep their values."""
        if self._hooks:
            _attached.discard(self.optimizer)
            self.optimizer.param_groups[0].pop(RULE, None)
            for quantizer in self._quantizers:
                if _latest[quantizer] == id(self):
                    quantizer.ruled = quantizer.trains_latent = False
        for hook in self._hooks:
            hook.remove()
        self._hooks = ()

    def _require_fitting(self, layers: dict[str, BinaryLayer]) -> None:
        for name, layer in layers.items():
            quantizer = layer.weight_quantizer
            pair = quantizer.pair
            if self.overwrites and not isinstance(pair, Pair):
                raise ValueError(
                    f"{name}: pair {pair.name!r} solves no prox problem, and {self.name} overwrites latents by their "
                    "prox points: binarize with a pair that has a prox, or with this one corrected by "
                    "proxconnect.theory.correct, whose prox is the identity"
                )
            if not self.quantises and quantizer.scale == "learned":
                raise ValueError(
                    f"{name}: a learned scale learns nothing by {self.name}, whose forward pass does not use it: "
                    "binarize with scale='channel'"
                )

    def _before_load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        saved = state["param_groups"][0].get(RULE)
        if saved is None:
            raise ValueError(f"this state was made without a rule, by PC++: to go on by {self.name}, load it before "
                             f"proxconnect.{self.name}(optimizer, model)")  # fmt: skip
        if saved != self.name:
            raise ValueError(f"this state was made by {saved}, and the optimizer goes by {self.name}: call "
                             f"proxconnect.{saved}(optimizer, model) instead, before load_state_dict()")  # fmt: skip

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._overwritten or not takes_effect(optimizer, kwargs):
            return None
        closure = next((given for given in (*args, *kwargs.values()) if callable(given)), None)
        if closure is None:
            self._overwrite()
            return None
        waiting = [self._overwrite]

        def followed() -> Any:
            loss = closure()
            if waiting:
                waiting.pop()()
            return loss

        return (
            tuple(followed if given is closure else given for given in args),
            {name: followed if given is closure else given for name, given in kwargs.items()},
        )

    @torch.no_grad()
    def _overwrite(self) -> None:
        is_skipped = skipped(self.optimizer)
        for latent, layer in self._overwritten.items():
            if latent.grad is not None:
                point = prox_point(layer.weight_quantizer, layer.by_channel(latent))
                point = point.reshape(latent.shape)
                latent.copy_(point if is_skipped is None else torch.where(is_skipped != 0, latent, point))
                layer.weight_quantizer.trained = True  # a schedule should move the μ of a soft P


def proxquant(optimizer: Optimizer, model: nn.Module) -> UpdateRule:
    """Train by ProxQuant: the gradient at the quantised weights, each step from the prox point, w* ← ᾱ·P(w*/ᾱ) - η·g.

    With P = sign, a latent changes its sign only in a step longer than ᾱ. For pairs whose P is the identity (fp, bnn++
    and all others that `theory.correct` makes) it is PC++. Both arguments and the errors are those of `UpdateRule`.
    Source: Bai 2019 (arXiv 1810.00861).

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(2, 1, bias=False)), "bc", keep=None, scale=None)
        >>> model[0].weight = torch.tensor([[0.3, -0.2]])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> rule = pc.proxquant(optimizer, model)
        >>> model(torch.tensor([0.5, 0.5])).backward()
        >>> optimizer.step()
        >>> model[0].latent.data  # ±1 less 0.1 · 0.5
        tensor([[ 0.9500, -1.0500]])
    """
    return UpdateRule(optimizer, model, quantises=True, overwrites=True)


def reverse_proxconnect(optimizer: Optimizer, model: nn.Module) -> UpdateRule:
    """Train by reverse ProxConnect: the gradient at the latents w*, each step from the prox point ᾱ·P(w*/ᾱ).

    For pairs whose P is the identity (fp, bnn++ and all others that `theory.correct` makes) it is `post_training`.
    Both arguments and the errors are those of `UpdateRule`. Source: Dockhorn 2021 (arXiv 2110.13220).

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(2, 1, bias=False)), "bc", keep=None, scale=None)
        >>> model[0].weight = torch.tensor([[0.3, -0.2]])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> rule = pc.reverse_proxconnect(optimizer, model)
        >>> model(torch.tensor([1.0, 1.0])).backward()
        >>> optimizer.step()
        >>> model[0].latent.data  # ±1 less 0.1 · 1
        tensor([[ 0.9000, -1.1000]])
    """
    return UpdateRule(optimizer, model, quantises=False, overwrites=True)


def post_training(optimizer: Optimizer, model: nn.Module) -> UpdateRule:
    """Train in full precision and quantise after training, by the hard weights of `eval()`.

    Pairs may lack a prox. Call `remove()` before another optimizer continues by PC++. Both arguments and the errors are
    those of `UpdateRule`.

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(2, 1, bias=False)), "bc", keep=None, scale=None)
        >>> model[0].weight = torch.tensor([[0.3, -0.2]])
        >>> rule = pc.post_training(torch.optim.SGD(model.parameters(), lr=0.1), model)
        >>> x = torch.tensor([1.0, 0.0])
        >>> round(model.train()(x).item(), 6), model.eval()(x).item()
        (0.3, 1.0)
    """
    return UpdateRule(optimizer, model, quantises=False, overwrites=False)


def prox_point(quantizer: Quantizer, latent: Tensor) -> Tensor:
    """Return ᾱ·P_μ(w*/ᾱ) for w* = `latent`, in its dtype, with the prox P of the quantizer's `Pair`; 0 for ᾱ = 0.

    Without a scale, ᾱ is 1. Infinite latents give NaN.
    """
    pair = quantizer.pair
    assert isinstance(pair, Pair)  # the rule refused all others
    alpha_bar = quantizer.sharing.mean_magnitude(latent)
    if alpha_bar is None:
        point = pair.prox(latent, quantizer.mu.to(latent.device, latent.dtype))
        return point + (latent - latent)  # NaN for an infinite latent, as with a scale
    x = latent / torch.where(alpha_bar == 0, 1.0, alpha_bar)
    mu = quantizer.mu.to(x.device, x.dtype)  # FSDP2 may keep the latents, but not μ, on the host
    return (alpha_bar * pair.prox(x, mu)).to(latent.dtype)
