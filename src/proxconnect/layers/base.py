"""The base of all binary layers: the latent parameter, the property `weight`, loading."""

import warnings
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.groups import require_divisible, require_groups
from proxconnect.layers.left_out import expect_in_optimizer, forget_expectations
from proxconnect.layers.living import LIVING, enlist
from proxconnect.layers.one_sign import FirstInputs
from proxconnect.layers.products import Product, RowProduct
from proxconnect.layers.react import Shift
from proxconnect.layers.weight_use import notice_use, refuse_functional_call
from proxconnect.pairs import AnyPair, resolve
from proxconnect.quantizer.quantizer import UNSCALED_MAGNITUDE, Quantizer
from proxconnect.quantizer.scales import Scale
from proxconnect.quantizer.softness import sample


class BinaryLayer(Product):
    """Mixin over a torch layer that holds the parameter `latent` and computes `weight` from it.

    The property `weight` is the effective weight. In `train()` it is α·F_μ(latent/ᾱ) with the gradient of B, where ᾱ is
    the mean |latent| and α the least-squares scale. In `eval()` it is the hard ᾱ·sign(latent), but stays float for the
    pair `fp`. With a learned scale s it is s·(α/ᾱ)·F_μ(latent/ᾱ) in `train()` and s·sign(latent) in `eval()`. An update
    rule without quantised weights, such as `reverse_proxconnect`, makes it the latent in `train()`. See `Quantizer`.

    `weight` has the semantics of `torch.nn.utils.parametrize`. Assigning a tensor copies it into `latent` and starts a
    learned scale again. An in-place write to a quantised `weight` is lost and warns: instead of
    `nn.init.normal_(layer.weight)` write to `layer.latent`.

    A state dict of the float layer loads: its `weight` is read as `latent`, and a missing μ stays as it is.
    """

    own_state: ClassVar[tuple[str, ...]] = ("latent", "weight_quantizer", "input_quantizer", "input_shift")
    latent: Tensor
    """The parameter: latent weights with the shape and dtype of the float layer's `weight`."""
    bias: Any
    weight_quantizer: Quantizer
    """The quantizer that computes `weight` from `latent`."""
    input_quantizer: Quantizer | None
    """The quantizer of the input; None for a float input."""
    input_shift: Shift | None
    """The learned shift of the input before its quantizer; None without learned thresholds."""
    first_inputs: FirstInputs
    """The signs of its binary inputs at the first training steps."""
    qualified_name: str = ""
    """Its name in the model that `binarize` got; empty for layers that it did not see."""

    @torch.inference_mode(False)  # so that μ can move, and a learned scale can be trained
    def _quantise_by(
        self, weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None, scale: Scale = "channel",
        accumulator: Accumulator | None = None, group_size: int | None = None,
    ) -> None:  # fmt: skip
        input_pair = pair_of_inputs(activations)
        require_binary_input(accumulator, input_pair)
        require_groups(group_size, scale)
        require_divisible(group_size, input_pair, self._row_sizes(), type(self).__name__)
        if group_size is not None and isinstance(self, RowProduct):
            self.divide(group_size)
        device, dtype = self.latent.device, torch.promote_types(self.latent.dtype, torch.float32)  # of μ
        with torch.device(device):  # whatever the caller's default device is
            quantizer = Quantizer(weights, scale, channel_dims=self.channel_dims, magnitude=UNSCALED_MAGNITUDE)
            inputs = None if input_pair is None else Quantizer(input_pair, None)
        self.weight_quantizer = quantizer.to(dtype)
        self.input_quantizer = None if inputs is None else inputs.to(dtype)
        self.weight_quantizer.start_scale(self.by_channel(self.latent))
        self.input_shift = None
        self.first_inputs = FirstInputs()
        if accumulator is not None:
            self.accumulator = accumulator
        self.weight_quantizer.float_sample = sample(self.latent)
        enlist(self)
        expect_in_optimizer(self)

    def _row_sizes(self) -> tuple[int, ...]:
        """Return the number of inputs of a linear layer, as `require_groups` takes it."""
        return (self.input_channels(tuple(self.latent.shape)),) if isinstance(self, RowProduct) else ()

    @property
    def has_binary_input(self) -> bool:
        """True if the layer has an `input_quantizer`."""
        return self.input_quantizer is not None

    must_be_called = has_binary_input
    """True if other code must call the layer, because multiplying by its `weight` would skip the input's pair."""

    @property
    def quantizers(self) -> dict[str, Quantizer]:
        """The layer's quantizers by part: "weights" and, if there is an `input_quantizer`, "activations"."""
        parts = {"weights": self.weight_quantizer}
        if self.input_quantizer is not None:
            parts["activations"] = self.input_quantizer
        return parts

    @property
    def weight(self) -> Tensor:
        """The effective weight, computed from `latent` at each access, in the shape and dtype of `latent`.

        In `train()` it is what the pair gives, which need not be binary, times a scale; in `eval()` it is scale·sign.
        The pair `fp` gives `latent` in both, and some update rules in `train()`. Assigning a tensor copies it into
        `latent`.
        """
        try:
            if "weight_quantizer" not in self._modules:  # not yet there in torch's __init__
                return self.latent
            weight = self._quantised()
        except AttributeError as error:  # torch would report it as "no attribute 'weight'"
            raise RuntimeError(f"the weight of {type(self).__name__} could not be computed: {error}") from error
        if not torch.compiler.is_compiling() and not self.weight_quantizer.is_float:
            notice_use(weight, self)
        return weight

    @weight.setter
    def weight(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"layer.weight takes a tensor, which is written to layer.latent; got {type(value).__name__}"
            )
        refuse_functional_call(self)
        if value.grad_fn is not None:
            raise ValueError(
                "layer.weight takes a tensor that is no result of a differentiable computation: assign value.detach(), "
                "or for torch.func.functional_call pass the parameter under its name `latent`"
            )
        if value.shape != self.latent.shape:
            raise ValueError(f"layer.latent has shape {tuple(self.latent.shape)}; got {tuple(value.shape)}")
        with torch.no_grad():
            self.latent.copy_(value)
        self.weight_quantizer.start_scale(self.by_channel(self.latent))

    @property
    def binary_weight(self) -> Tensor:
        """The hard weight scale·sign(latent), also for `fp`, without gradient, in the shape and dtype of `latent`."""
        return self.weight_quantizer.hard(self.by_channel(self.latent)).reshape(self.latent.shape)

    def forward(self, input: Tensor, *args: Any) -> Tensor:
        """Run the float layer with quantised weights and, if there is an `input_quantizer`, a quantised `input`."""
        return self.product(self.quantize_input(input), *self.weight_factors(), self.bias, *args)

    def _quantised(self) -> Tensor:
        """Return `weight`, of which no use is noticed."""
        return self._quantised_of(self.latent)

    def _quantised_of(self, latent: Tensor) -> Tensor:
        """Return the weight that `latent` gives, in its shape: the layer's own latent, or rows of it."""
        view = self.by_channel(latent)
        weight: Tensor = self.weight_quantizer(view)
        self._note_hard(weight)
        return weight if view is latent else weight.reshape(latent.shape)

    def _note_hard(self, weight: Tensor) -> None:
        """Remember the gradient that a backward pass through a hard `weight` gives the latent."""
        if torch.compiler.is_compiling() or not weight.requires_grad or not self.weight_quantizer.is_hard:
            return
        if not torch._C._functorch.is_functorch_wrapped_tensor(weight):
            engine: Any = torch.autograd.Variable._execution_engine
            weight.register_hook(lambda _: engine.queue_callback(self._remember_gradient))

    def _remember_gradient(self) -> None:
        if (gradient := self.latent.grad) is not None:
            _hard_gradients[self] = ref(gradient), gradient._version

    def weight_factors(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight and α for `product`: (`weight`, None), or `Quantizer.factors` if `scales_sums`.

        The weight has the shape of `latent`; α has one value, or one per output channel, or is None.
        """
        if not self.scales_sums:
            return self._quantised(), None
        weight, alpha = self.weight_quantizer.factors(self.by_channel(self.latent))
        self._note_hard(weight)
        return weight.reshape(self.latent.shape), alpha

    @property
    def scales_sums(self) -> bool:
        """True if sums are scaled, not weights: with an accumulator and quantised weights, or if `sums_integers`."""
        return self.sums_integers if self.accumulator is None else not self.weight_quantizer.is_float

    @property
    def sums_integers(self) -> bool:
        """True if weights and inputs are hard signs now, so that all sums are integers."""
        inputs = self.input_quantizer
        return inputs is not None and self.weight_quantizer.is_hard and inputs.is_hard

    def quantize_input(self, input: Tensor) -> Tensor:
        """Add the `input_shift`, if any, to `input` and quantise it; return it unchanged without `input_quantizer`."""
        if self.input_quantizer is None:
            return input
        shifted = input if self.input_shift is None else self.input_shift(input)
        quantised: Tensor = self.input_quantizer(shifted)
        if self.training and not torch.compiler.is_compiling() and not self.first_inputs.is_settled:
            self._see(shifted)
        return quantised

    def _see(self, input: Tensor) -> None:
        """Look at the signs of a training input, unless it stays float."""
        if torch.is_grad_enabled() and self.input_quantizer is not None and not self.input_quantizer.is_float:
            self.first_inputs.see(self.described(), input)

    def described(self) -> str:
        """Return the layer's qualified name if it is known, else its type and the shape of its latent."""
        return self.qualified_name or f"a {type(self).__name__} {tuple(self.latent.shape)}"

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register as torch does, with "weight" as `latent`; TypeError for "weight" or "weight_orig" after that."""
        if name in ("weight", "weight_orig") and "latent" in self._parameters:
            raise TypeError(
                f"{type(self).__name__}.weight is computed from the parameter `latent` and cannot hold a parameter: "
                "name `latent` instead, or assign a plain tensor to copy it into `latent`. (±1 has no zero: a pruned "
                "latent is +1 when hard)"
            )
        super().register_parameter("latent" if name == "weight" else name, param)

    def train(self, mode: bool = True) -> Self:
        """Set the mode and return self as torch does; while the layer is hard, steps that move it raise RuntimeError.

        `eval()` warns if a soft pair was trained and nothing moved its μ, because hard weights are another function.
        """
        super().train(mode)
        if not mode:
            watch(self)
            self.warn_if_unmoved("eval()", stacklevel=3)
        return self

    def warn_if_unmoved(self, hardening: str, stacklevel: int) -> None:
        """Warn if a soft pair was trained and nothing moved its μ; the message says that `hardening` makes it hard."""
        for part, quantizer in self.quantizers.items():
            if quantizer.is_soft_and_unmoved():
                warnings.warn(
                    f"{part} ran in train() by the soft pair {quantizer.pair.name!r} at μ = {float(quantizer.mu):g}, "
                    f"which nothing moves, and {hardening} makes them hard, another function: let "
                    f"proxconnect.Sharpening(optimizer, model, steps=..., part={part!r}) move μ while training, "
                    "or fix it with pair.at(mu)",
                    stacklevel=stacklevel,
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.first_inputs = FirstInputs()
        enlist(self)
        expect_in_optimizer(self)
        if not self.training:
            watch(self)

    def extra_repr(self) -> str:
        """Describe the float layer, the pair and the scale that make `weight`, and the accumulator if there is one."""
        quantizer = self.weight_quantizer
        accumulator = "" if self.accumulator is None else f"accumulator={self.accumulator}"
        groups = "" if self.group_size is None else f"group_size={self.group_size}"
        made = f"weight={quantizer.pair.name}(latent), scale={quantizer.scale}"
        shown = (super().extra_repr(), made, groups, accumulator)
        return ", ".join(filter(None, shown))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        is_float = prefix + "weight" in state_dict and prefix + "latent" not in state_dict
        if is_float:
            weight = state_dict[prefix + "latent"] = state_dict.pop(prefix + "weight")
            quantizer, key = self.weight_quantizer, f"{prefix}weight_quantizer.alpha"
            if quantizer.alpha is not None and key not in state_dict and weight.shape == self.latent.shape:
                state_dict[key] = quantizer.starting_scale(self.by_channel(weight))
        if self.input_shift is not None and f"{prefix}input_quantizer.mu" not in state_dict:  # its inputs were float
            state_dict.setdefault(f"{prefix}input_shift.shift", self.input_shift.shift.detach())
        super()._load_from_state_dict(state_dict, prefix, *args)
        if prefix + "latent" in state_dict:
            self.weight_quantizer.float_sample = sample(self.latent) if is_float else None


_watched: WeakSet[BinaryLayer] = WeakSet()
_hard_gradients: "WeakKeyDictionary[BinaryLayer, tuple[ref[Tensor], int]]" = WeakKeyDictionary()
"""The gradients of latents that were last taken through hard weights, with their versions."""
_hooks: list[Any] = []


def watch(layer: BinaryLayer) -> None:
    """Make steps that move the latent of `layer` raise RuntimeError while it is hard, or with a gradient from then."""
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_refuse_hard_step))
    _watched.add(layer)


def forget(layer: BinaryLayer) -> None:
    """Remove `layer` from the living binary layers and all checks at optimizer steps, as its conversion is undone."""
    LIVING.discard(layer)
    _watched.discard(layer)
    forget_expectations(layer)


def _refuse_hard_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    hard = []
    has_closure = any(callable(argument) for argument in (*args, *kwargs.values()))
    for layer in list(_watched):
        quantizers = layer.quantizers.values()
        if any(quantizer.is_hard for quantizer in quantizers):
            hard += [layer] if (has_closure or layer.latent.grad is not None) else []
        elif _has_hard_gradient(layer):
            hard += [] if has_closure else [layer]  # a closure takes the gradient again
        elif layer.training and all(quantizer.override is None for quantizer in quantizers):
            _watched.discard(layer)  # neither in eval() nor inside hard()
    if not hard:
        return
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for layer in hard:
        if id(layer.latent) in stepped and layer.latent.requires_grad:
            raise RuntimeError(
                f"optimizer.step() would train the latents of a {type(layer).__name__} that is in eval() or under "
                f"hard(), or was when its gradient was taken: its forward pass is sign there, so that would train the "
                f"pair (sign, B) and not {layer.quantizers['weights'].pair.name!r}. Call model.train(), zero the "
                "gradient and compute it again; to freeze batch norm, call eval() on the batch norms alone"
            )


def _has_hard_gradient(layer: BinaryLayer) -> bool:
    """Return whether the latent's gradient is one through hard weights, to which nothing was added since."""
    gradient, (held, version) = layer.latent.grad, _hard_gradients.get(layer, (None, 0))
    return gradient is not None and held is not None and held() is gradient and gradient._version == version


def name_layers(model: nn.Module) -> None:
    """Set `qualified_name` of the binary layers of `model`, for warnings."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer):
            module.qualified_name = name


def pair_of_inputs(activations: str | AnyPair | None) -> AnyPair | None:
    """Return the pair of a layer's inputs; None if they stay float: for None, and for an identity pair such as `fp`.

    Errors are those of `resolve`.
    """
    pair = None if activations is None else resolve(activations)
    return None if pair is None or pair.is_identity else pair


def require_binary_input(accumulator: Accumulator | None, *input_pairs: AnyPair | None) -> None:
    """Raise TypeError unless `accumulator` is an `Accumulator` or None; ValueError for one if all pairs are None."""
    if accumulator is None:
        return
    if not isinstance(accumulator, Accumulator):
        raise TypeError(f"accumulator takes an Accumulator, as Accumulator(bits=8); got {type(accumulator).__name__}")
    if not any(input_pairs):
        raise ValueError(
            "an accumulator holds integer sums, so it needs binary inputs: pass activations too, and not 'fp'"
        )
