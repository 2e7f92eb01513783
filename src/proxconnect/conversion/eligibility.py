"""The layers of a model that can become binary, the obstacles of the others, and layers that other code bypasses.

A bypassed layer is one by whose weight other code multiplies without calling the layer, so that its input stays float.
"""

import re
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from proxconnect._support.text import some, with_article
from proxconnect.layers import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryLayer,
    BinaryLinear,
    BinaryMultiheadAttention,
    BinaryTransposedLinear,
)
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.embedding import BinaryEmbedding, fault_of
from proxconnect.quantizer.quantizer import FLOAT_TYPES

Form = type[ConvertedLayer] | type[BinaryMultiheadAttention]
Include = type[nn.Module] | tuple[type[nn.Module], ...] | list[type[nn.Module]]

FORMS: tuple[Form, ...] = (
    BinaryLinear,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryMultiheadAttention,
    BinaryTransposedLinear,
)
"""The binary layers that a float layer can become by default."""

_OWN_COMPUTATION = ("forward", "_conv_forward", "__call__")

_TAKEN_BY: dict[str, tuple[str, ...]] = {
    "torchvision.models.swin_transformer.ShiftedWindowAttention": ("qkv", "proj"),
    "torchvision.models.swin_transformer.ShiftedWindowAttentionV2": ("qkv", "proj"),
}
"""The attributes of bypassed layers, by the class whose forward takes their weights."""

_NORM = re.compile(r"[Nn]orm(Act)?(\dd)?$")


@dataclass(frozen=True)
class WeightLayer:
    """A module of a model that has a weight of two dimensions or more, and whether it can become binary."""

    names: tuple[str, ...]
    """All qualified names under which the model registers the module."""
    module: nn.Module
    form: Form | None
    """The class that it would become; None if there is none."""
    obstacle: str
    """The reason why the module cannot become binary; empty if it can."""

    @property
    def name(self) -> str:
        """The first of the module's qualified names."""
        return self.names[0]

    @property
    def weights(self) -> tuple[nn.Parameter, ...]:
        """The parameters that would become latents if there is no obstacle; empty without a binary form."""
        names = () if self.form is None else self.form.float_weights(self.module)
        return tuple(p for name in names if (p := self.module._parameters.get(name)) is not None)

    @property
    def is_product(self) -> bool:
        """True if the layer has a binary form that multiplies its input, so that it may be an edge."""
        return self.form is not None and self.form is not BinaryEmbedding


def survey(model: nn.Module, include: Include = (), embeddings: bool = False) -> list[WeightLayer]:
    """List the modules of `model` that have a weight of two dimensions or more, except norms, in order of registration.

    Embeddings can become binary only with `embeddings`, and only then linear layers that are tied to them. Only the
    subclasses of convertible layers in `include` can become binary although they override `forward`; TypeError for
    another class there. ValueError if the model is binary already, has lazy parameters, or has integer weights.
    """
    classes = tuple(include) if isinstance(include, tuple | list) else (include,)
    for cls in classes:
        if not isinstance(cls, type) or binary_form(cls, embeddings) is None:
            raise TypeError(f"include takes subclasses of the layers that have a binary form; got {cls!r}")
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    _refuse_unready(names)
    owners: dict[int, list[str]] = {}  # qualified names by parameter, one per module and attribute that hold it
    for module, aliases in names.items():
        for key, parameter in module._parameters.items():
            owners.setdefault(id(parameter), []).append(f"{aliases[0]}.{key}".removeprefix("."))
    layers, adapters = [], _adapters(model)
    for module, aliases in names.items():
        form = None if module in adapters else binary_form(type(module), embeddings)  # without one it is no edge either
        if form is None and not _owns_weight(module):
            continue
        obstacle = adapters.get(module) or _obstacle(module, form, classes)
        layers.append(WeightLayer(tuple(aliases), module, form, obstacle))
    shared = _shared(layers, owners)
    return [
        layer if layer.obstacle or shared & {id(weight) for weight in layer.weights}
        else replace(layer, obstacle=_tie(layer.module, layer.form, layer.name, owners))
        for layer in layers
    ]  # fmt: skip


def binary_form(cls: type[nn.Module], embeddings: bool = False) -> Form | None:
    """Return the binary class that replaces the float class `cls`, or None; without `embeddings` one of `FORMS`."""
    forms = (*FORMS, BinaryEmbedding) if embeddings else FORMS
    return next((form for form in forms if form.float_class(cls) is not None), None)


def _shared(layers: list[WeightLayer], owners: dict[int, list[str]]) -> set[int]:
    """Return the ids of weights that can become one latent of several layers: of embeddings and linear layers alone."""
    holders: dict[int, list[WeightLayer]] = {}
    for layer in layers:
        if layer.form in (BinaryEmbedding, BinaryLinear) and not layer.obstacle:
            holders.setdefault(id(layer.weights[0]), []).append(layer)
    return {
        weight
        for weight, held in holders.items()
        if len(held) == len(owners[weight]) > 1 and any(layer.form is BinaryEmbedding for layer in held)
    }


def registered_edges(model: nn.Module, layers: list[WeightLayer]) -> dict[str, str]:
    """Map the names of the edge layers, judged by order of registration, to the reasons why they are edges.

    Edges are layers with a binary form other than embeddings: the first (unless an embedding precedes it), the last,
    and all in the modules that `get_classifier()` or `get_output_embeddings()` return. `layers` is the result of
    `survey(model)`.
    """
    known = [layer for layer in layers if layer.is_product]
    if not known:
        return {}
    edges = {known[-1].name: "edge: the last layer registered"}
    for getter in ("get_classifier", "get_output_embeddings"):
        try:
            named = getattr(model, getter)()
        except (TypeError, AttributeError, NotImplementedError):  # takes arguments, or only subclasses have it
            continue
        heads = named if isinstance(named, tuple | list) else (named,)
        modules = {module for head in heads if isinstance(head, nn.Module) for module in head.modules()}
        edges.update({layer.name: f"edge: {getter}() names it" for layer in known if layer.module in modules})
    before = layers[: layers.index(known[0])]
    if not any(isinstance(layer.module, nn.Embedding | nn.EmbeddingBag) for layer in before):
        edges[known[0].name] = "edge: the first layer registered"
    return edges


def _refuse_unready(names: dict[nn.Module, list[str]]) -> None:
    binary = [aliases[0] for module, aliases in names.items() if isinstance(module, BinaryLayer)]
    if binary:
        raise ValueError(
            f"the model is binary already ({some(binary)}): binarize() takes the float model, once, and before "
            "binarize_parameter(). Build it anew; to give layers different pairs, pass a mapping such as "
            'weights={"layer1.*": "bc", "*": "bnn++"}'
        )
    lazy = [
        aliases[0]
        for module, aliases in names.items()
        if any(t is not None and is_lazy(t) for t in (*module._parameters.values(), *module._buffers.values()))
    ]
    if lazy:
        raise ValueError(
            f"the model has lazy modules without a shape yet ({some(lazy)}): run it once on an example, then binarize"
        )
    integer = [aliases[0] for module, aliases in names.items() if _is_integer(module)]
    if integer:
        raise ValueError(
            f"non-float model: {some(integer)} holds integer, packed or quantized weights. Binarize the float model "
            "that it was made from"
        )


def _is_integer(module: nn.Module) -> bool:
    if "nn.quantized" in type(module).__module__ or "nn.intrinsic.quantized" in type(module).__module__:
        return True
    if any(p.dim() >= 2 and not (p.is_floating_point() or p.is_complex()) for p in module.parameters(recurse=False)):
        return True
    if binary_form(type(module)) is None or any(_is_matrix(p) for p in module.parameters(recurse=False)):
        return False
    return any(b is not None and b.dtype in (torch.uint8, torch.int8) for b in module._buffers.values())


def _adapters(model: nn.Module) -> dict[nn.Module, str]:
    """Map the modules of peft's adapters in `model` to the reason why they stay float."""
    owners = [(m, getattr(m, "adapter_layer_names", ())) for m in model.modules() if hasattr(m, "base_layer")]
    children = [owner._modules.get(name) for owner, names in owners for name in names]
    return {part: "adapter of peft" for child in children if child is not None for part in child.modules()}


def _owns_weight(module: nn.Module) -> bool:
    if _NORM.search(type(module).__name__) or isinstance(module, parametrize.ParametrizationList):
        return False
    owned = ((key, p) for key, p in module._parameters.items() if p is not None)
    return any(_is_matrix(p) or ("weight" in key and p.dim() >= 2) for key, p in owned)


def _obstacle(module: nn.Module, form: Form | None, include: tuple[type[nn.Module], ...]) -> str:
    """Return the reason why `module` cannot become binary, apart from ties, or an empty string."""
    kind = type(module).__name__
    if form is None and type(module) is nn.Embedding:
        return "an embedding: embeddings=True makes it binary"
    if form is None:
        owned = [key for key, p in module._parameters.items() if p is not None and p.dim() >= 2]
        return f"no binary form of {kind} ({', '.join(owned)})" if owned != ["weight"] else f"no binary form of {kind}"
    if parametrize.is_parametrized(module):
        return f"parametrized ({', '.join(cast(nn.ModuleDict, module.parametrizations))})"
    parameters = module._parameters
    if "weight_g" in parameters:
        return "weight-normed: torch.nn.utils.remove_weight_norm() makes its weight plain"
    if any(key.endswith("_mask") and key.removesuffix("mask") + "orig" in parameters for key in module._buffers):
        return "pruned: prune.remove() makes it permanent"
    if "weight_orig" in parameters:
        return "spectral-normed: torch.nn.utils.remove_spectral_norm() makes its weight plain"
    weights = [parameters.get(name) for name in form.float_weights(module)]
    if any(weight is None for weight in weights):
        return "its weight is no parameter of its own"
    if "forward" in module.__dict__:
        return "its forward is replaced on the instance (by a hook library?): remove that first"
    float_class = form.float_class(type(module))
    overridden = [m for m in _OWN_COMPUTATION if getattr(type(module), m, None) is not getattr(float_class, m, None)]
    if overridden and not isinstance(module, include):
        return f"{kind} overrides {overridden[0]}: include=({kind},) replaces it by {form.__name__}"
    for weight in weights:
        assert weight is not None
        if weight.numel() == 0:
            return "its weight is empty"
        if weight.dtype not in FLOAT_TYPES:
            return f"its weight is {str(weight.dtype).removeprefix('torch.')}"
        if type(weight) is not nn.Parameter:
            return f"its weight is {with_article(type(weight).__name__)}, no plain parameter: binarize first"
    return fault_of(module) if isinstance(module, nn.Embedding) else ""


def _tie(module: nn.Module, form: Form | None, name: str, owners: dict[int, list[str]]) -> str:
    for key in ("weight",) if form is None else form.float_weights(module):
        weight = module._parameters.get(key)
        others = [o for o in owners[id(weight)] if o != f"{name}.{key}".removeprefix(".")] if weight is not None else []
        if others:
            return f"tied to {others[0]}"
    return ""


def float_inputs(model: nn.Module, bypassed: set[nn.Module]) -> dict[nn.Module, str]:
    """Map the layers whose input stays float, since other code bypasses them, to the reasons.

    `bypassed` are the layers that a run found so. The `out_proj` of an attention that has torch's forward, and was not
    bypassed itself, does not count: that forward only takes its weight, but after `call_every_layer` it is called.
    """
    reasons = {module: f"{taker} takes its weight" for module, taker in takers(model).items()}
    attentions = (m for m in model.modules() if isinstance(m, nn.MultiheadAttention))
    attention_of = {m.out_proj: m for m in attentions if _definer_of_forward(type(m)) is nn.MultiheadAttention}
    for module in bypassed:
        if module not in attention_of or attention_of[module] in bypassed:
            reasons.setdefault(module, "its forward is bypassed")
    return reasons


def takers(model: nn.Module) -> dict[nn.Module, str]:
    """Map each layer of `model` that an attention of torchvision's Swin bypasses to the class name of the attention.

    A subclass that inherits `forward` gets the name of the class that defines it. Only the classes and attributes in
    `_TAKEN_BY` are known: the `out_proj` of `nn.MultiheadAttention` is not in the map.
    """
    found: dict[nn.Module, str] = {}
    for parent in model.modules():
        cls = _definer_of_forward(type(parent))
        for attribute in _TAKEN_BY.get(f"{cls.__module__}.{cls.__qualname__}", ()):
            child = getattr(parent, attribute, None)
            if isinstance(child, nn.Module):
                found[child] = cls.__name__
    return found


def _definer_of_forward(cls: type[nn.Module]) -> type:
    return next(base for base in cls.__mro__ if "forward" in vars(base))


def _is_matrix(parameter: Tensor) -> bool:
    """Return True if at least two dimensions have more than one entry."""
    return sum(size > 1 for size in parameter.shape) >= 2
