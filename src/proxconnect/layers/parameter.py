"""Binary parameters that belong to no binary layer, such as the stacked weights of a mixture of experts.

The parameter moves into a child module of its owner, a `BinaryParameter` named `<name>_binary`. The class of the owner
becomes a subclass in which `owner.<name>` is the weight that the child computes.
"""

from functools import cache, reduce, wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from proxconnect._support.arguments import dimensions, require_module, require_type
from proxconnect._support.text import with_article
from proxconnect.layers.base import BinaryLayer
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.scales import Scale

SUFFIX = "_binary"
"""The child has the name of the parameter with this suffix."""


class BinaryParameter(BinaryLayer):
    """The child that computes a binary parameter of another module, its owner; `binarize_parameter` makes it."""

    bias = None

    def __init__(self, parameter: nn.Parameter, *, channel_dims: tuple[int, ...] = (0,), **options: Any) -> None:
        super().__init__()
        require_type(parameter, nn.Parameter, "parameter takes an nn.Parameter")
        self.channel_dims = dimensions(channel_dims, "channel_dims")
        self.latent = parameter
        self._quantise_by(**options)

    @property
    def mode(self) -> tuple[bool, bool]:
        """Two flags, (is hard, is the latent itself), that say how `weight` is computed now."""
        return self.weight_quantizer.is_hard, self.weight_quantizer.is_float

    def float_key(self, name: str) -> str:
        """Return the parameter's key in a float state dict: the qualified name of this child without "_binary"."""
        return name.removesuffix(SUFFIX)

    def forward(self) -> Tensor:  # type: ignore[override]  # it has no input
        """Return `weight`, the quantised parameter."""
        return self.weight


class Owner(nn.Module):
    """Mixin of a module with binary parameters: `module.<name>` is the weight of its child `<name>_binary`."""

    binary_names: ClassVar[tuple[str, ...]] = ()
    """The names of the parameters that a child may compute."""
    _held: dict[Any, Tensor] | None = None
    """The weights that the running forward has computed, by name and mode; None outside of a forward."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register as torch does; TypeError for a parameter that a child computes, with or without "_orig"."""
        taken = name.removesuffix("_orig")  # the suffix of pruning
        if taken in self.binary_names and taken + SUFFIX in self._modules:
            raise TypeError(
                f"{type(self).__name__}.{taken} is computed from {taken}{SUFFIX}.latent: name that instead, or assign "
                "a plain tensor to copy it there"
            )
        super().register_parameter(name, param)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.binary_names:
            if prefix + name in state_dict and name + SUFFIX in self._modules:
                state_dict[f"{prefix}{name}{SUFFIX}.weight"] = state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *args)


def binarize_parameter(
    module: nn.Module, name: str, weights: str | AnyPair = "bnn++", *, scale: Scale = "channel",
    channel_dims: tuple[int, ...] = (0,),
) -> BinaryParameter:  # fmt: skip
    """Make the parameter `name` of `module` binary, in place, and return the child that computes it.

    Afterwards `module.<name>` is the quantised tensor, computed once in each forward of `module`. The latent
    `module.<name>_binary.latent` is the same parameter object as before. Float checkpoints load as before. Call it
    after `binarize`.

    Args:
        module: the module that owns the parameter.
        name: the name of the parameter in `module`, without dots.
        weights: the pair of the parameter.
        scale: "channel" for a scale per index of the `channel_dims`, "tensor" for one in all, "learned" for trained
            ones per channel, or None.
        channel_dims: the dimensions of output channels: (0, 1) for experts stacked as (experts, out, in).

    Raises:
        ValueError: `module` itself has no such parameter, or it is not float or has no entries or dimensions; the
            `channel_dims` are no distinct dimensions of it; `<name>_binary` is taken; or the pair or the scale is
            unknown or does not fit.
        TypeError: the parameter is binary already, parametrized, lazy, or that of a recurrent layer, which holds it
            twice; or an argument has another type.

    Example:
        >>> layer = nn.Bilinear(4, 4, 2)
        >>> pc.binarize_parameter(layer, "weight", "bnn++").latent.shape
        torch.Size([2, 4, 4])
        >>> with pc.hard(layer):
        ...     print(layer.weight.unique().numel())  # ±α of each of two outputs
        4
    """
    require_module(module, "binarize_parameter(module, name)")
    parameter = _plain_parameter(module, name)
    channel_dims = dimensions(channel_dims, "channel_dims")
    dims = {d % parameter.dim() for d in channel_dims if -parameter.dim() <= d < parameter.dim()}
    if len(dims) != len(channel_dims) or not dims:
        raise ValueError(
            f"channel_dims {channel_dims} are no distinct dimensions of {name!r}, {tuple(parameter.shape)}"
        )
    child = BinaryParameter(parameter, weights=weights, scale=scale, channel_dims=tuple(sorted(dims)))
    child.qualified_name = name + SUFFIX
    adopt(module, name, child.train(module.training))
    return child


def adopt(module: nn.Module, name: str, child: nn.Module) -> None:
    """Replace a parameter by the child `<name>_binary`, in place, so that `module.<name>` reads the child's weight."""
    if not (isinstance(module, Owner) and name in module.binary_names):
        owner: Any = type(module)
        module.__class__ = _owner_class(owner, name)
    del module._parameters[name]
    module.add_module(name + SUFFIX, child)


def computed(name: str) -> property:
    """Return a property of an `Owner` that reads and writes its child's `weight`, or reads a float parameter.

    Within a forward of the owner, the weight is computed once per `mode` of the child, with and without gradients, and
    again after it is written.
    """

    def get(owner: Owner) -> Any:
        child: Any = owner._modules.get(name + SUFFIX)
        if child is None:
            return nn.Module.__getattr__(owner, name)
        held = owner._held
        if held is None:
            return child.weight
        key = (name, torch.is_grad_enabled(), child.mode)
        if key not in held:
            held[key] = child.weight
        return held[key]

    def put(owner: Owner, value: Any) -> None:
        child: Any = owner._modules[name + SUFFIX]
        child.weight = value
        if owner._held is not None:
            owner._held = {}

    return property(get, put)


def _plain_parameter(module: nn.Module, name: str) -> nn.Parameter:
    parameter = module._parameters.get(name)
    kind = type(module).__name__
    if not isinstance(name, str):
        raise TypeError(f"binarize_parameter(module, name) takes the name of a parameter; got {type(name).__name__}")
    if parametrize.is_parametrized(module, name):
        raise TypeError(f"{name!r} of {kind} is parametrized: torch.nn.utils.parametrize.remove_parametrizations first")
    if isinstance(module, nn.RNNBase):
        raise TypeError(f"{kind} keeps its weights in a list of its own, past their names: leave it float")
    if isinstance(module, BinaryLayer) or (isinstance(module, Owner) and name + SUFFIX in module._modules):
        raise TypeError(f"{name!r} of {kind} is binary already")
    if hasattr(module, name + SUFFIX):
        raise ValueError(f"{kind} has an attribute {name + SUFFIX!r}, which the child that computes {name!r} needs: "
                         "rename it")  # fmt: skip
    if parameter is None:
        own = ", ".join(key for key, p in module._parameters.items() if p is not None) or "none"
        raise ValueError(f"{kind} has no parameter {name!r} of its own: it has {own}. Pass the module that owns it")
    if is_lazy(parameter) or type(parameter) is not nn.Parameter:
        raise TypeError(
            f"{name!r} of {kind} is {with_article(type(parameter).__name__)}, no plain parameter with a shape"
        )
    if not parameter.is_floating_point() or parameter.numel() == 0 or parameter.dim() == 0:
        raise ValueError(f"{name!r} of {kind} is {parameter.dtype} of shape {tuple(parameter.shape)}: binary are float "
                         "tensors of one dimension or more")  # fmt: skip
    return parameter


@cache
def _owner_class(cls: Any, name: str) -> type[Owner]:
    """Return the subclass of `cls` that computes `name`, once in each forward."""

    @wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer, self._held = self._held, {}
        try:
            return cls.forward(self, *args, **kwargs)
        finally:
            self._held = outer

    members = {
        "binary_names": (*getattr(cls, "binary_names", ()), name),
        "made_from": (cls, name),
        "forward": forward,
        "__reduce_ex__": _reduce_ex,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        name: computed(name),
    }
    return type(cls.__name__, (cls,) if issubclass(cls, Owner) else (Owner, cls), members)


def _reduce_ex(owner: Owner, protocol: Any) -> tuple[Any, ...]:
    """Copy and pickle an owner: its class is made again from the one that can be imported."""
    cls: Any = type(owner)
    names: list[str] = []
    while "made_from" in vars(cls):
        cls, name = cls.made_from
        names.insert(0, name)
    return _blank_owner, (cls, tuple(names)), owner.__dict__


def _blank_owner(cls: Any, names: tuple[str, ...]) -> Any:
    cls = reduce(_owner_class, names, cls)
    return cls.__new__(cls)
