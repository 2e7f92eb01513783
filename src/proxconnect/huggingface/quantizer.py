"""Binary networks in transformers: `from_pretrained` binarizes a float checkpoint, or loads a binary one."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from glob import escape
from typing import Any

from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from proxconnect._support.arguments import boolean
from proxconnect._support.text import some
from proxconnect.conversion import binarize
from proxconnect.conversion.patterns import Keep
from proxconnect.layers import Accumulator, BinaryLayer, add_thresholds
from proxconnect.layers.converted import require_padding_value
from proxconnect.layers.groups import require_groups
from proxconnect.pairs import PAIRS
from proxconnect.quantizer.quantizer import Quantizer
from proxconnect.quantizer.scales import Scale

METHOD = "proxconnect"

Names = str | Mapping[str, str | None] | None
"""The name of a pair in `PAIRS`, or such names by patterns of layer names."""


@register_quantization_config(METHOD)
class ProxConnectConfig(QuantizationConfigMixin):  # type: ignore[misc]  # mypy skips transformers
    """The arguments of `binarize` for `from_pretrained(name, quantization_config=...)`.

    Import this module to register it with transformers. A float checkpoint is loaded first and binarized afterwards. A
    binary checkpoint of `save_pretrained` keeps its own configuration, and needs no argument.

    Args:
        weights, activations: names of `PAIRS`, or mappings from patterns of layer names to names.
        scale, keep, padding_value, group_size, embeddings: as for `binarize`, but `keep` is no function.
        accumulator: an `Accumulator`, or its fields as a mapping.
        layers: the pairs of weights and inputs by the name of each binary layer. `save_pretrained` writes them.
        thresholds: the names of the layers with learned thresholds, made by `add_thresholds`. `save_pretrained` writes
            them.

    Raises:
        ValueError: for an unknown argument, pair, scale or padding value, or a value that JSON cannot hold.
    """

    def __init__(
        self, /, weights: Names = "bnn++", activations: Names = None, *, scale: Scale = "channel",
        keep: str | Sequence[str] | None = "edges", accumulator: Accumulator | Mapping[str, Any] | None = None,
        padding_value: int = 0, layers: Mapping[str, Sequence[str | None]] | None = None,
        thresholds: Sequence[str] | None = None, group_size: int | None = None, embeddings: bool = False,
        **unknown: Any,
    ) -> None:  # fmt: skip
        unknown.pop("quant_method", None)
        if unknown:
            raise ValueError(
                f"ProxConnectConfig knows no {', '.join(sorted(unknown))}: this file may be of a newer version"
            )
        self.quant_method = METHOD
        self.weights, self.activations = _named("weights", weights), _named("activations", activations)
        if weights is None:
            raise ValueError(f"weights of a configuration is null: name a pair ({', '.join(PAIRS)})")
        Quantizer("bc", scale)  # raises for an unknown scale
        require_padding_value(padding_value)
        require_groups(group_size, scale)
        self.scale, self.padding_value, self.group_size = scale, int(padding_value), group_size
        self.embeddings = boolean(embeddings, "embeddings of a configuration")
        self.keep = keep if isinstance(keep, str) else _strings("keep", keep, Sequence)
        self.accumulator, self.layers = _accumulator(accumulator), _layers(layers)
        self.thresholds = _strings("thresholds", thresholds, list | tuple)

    def binarize(self, model: nn.Module) -> None:
        """Binarize a float network in place with this configuration, and store the pairs of its layers in `layers`.

        Errors are those of `pc.binarize`; ValueError too if a name in `thresholds` is no layer with binary inputs.
        """
        self._binarize(model, self.weights, self.activations, self.keep)
        plan: Any = model.binarization
        self.layers = {row.name: [row.weights, row.activations] for row in plan.rows if row.weights is not None}

    def binarize_again(self, model: nn.Module) -> None:
        """Binarize, in place, the layers of a float network that `layers` names, with the pairs there.

        Errors are those of `pc.binarize`; ValueError too if a name in `thresholds` is no layer with binary inputs.
        """
        layers = self.layers or {}
        if self.embeddings:
            _tie(model, layers)
        weights, inputs = ({escape(name): pairs[i] for name, pairs in layers.items()} for i in (0, 1))
        self._binarize(model, weights, inputs if any(inputs.values()) else None, None)

    def _binarize(self, model: nn.Module, weights: Names, activations: Names, keep: Keep) -> None:
        accumulator = None if self.accumulator is None else Accumulator(**self.accumulator)
        binarize(model, weights, activations, scale=self.scale, accumulator=accumulator, keep=keep,
                 padding_value=self.padding_value, group_size=self.group_size, embeddings=self.embeddings)  # fmt: skip
        modules = dict(model.named_modules())
        for name in self.thresholds or ():
            layer = modules.get(name)
            if not isinstance(layer, BinaryLayer) or not layer.has_binary_input:
                raise ValueError(
                    f"the configuration has thresholds of {name!r}, which is no layer with binary inputs here: load "
                    "the network that was saved, with the config.json that was saved with it"
                )
            add_thresholds(layer)


def _tie(model: Any, layers: Mapping[str, Any]) -> None:
    """Tie the weights of the `layers` of a float network that its configuration ties; transformers does so later."""
    for target, source in model.all_tied_weights_keys.items():
        owner, _, name = target.rpartition(".")
        if owner in layers and source.rpartition(".")[0] in layers:
            head: Any = model.get_submodule(owner)
            head._parameters[name] = model.get_parameter(source)
            head._is_hf_initialized = True  # else transformers reads its weight when only its scale is loaded


def _named(part: str, choice: Names) -> Names:
    """Return the pairs of weights or activations as plain data; ValueError for any other value."""
    for name in choice.values() if isinstance(choice, Mapping) else [choice]:
        if name is not None and not (isinstance(name, str) and name in PAIRS):
            raise ValueError(f"{part} of a configuration are names of pairs ({', '.join(PAIRS)}); got {name!r}: for a "
                             "pair of your own load the float network and call binarize")  # fmt: skip
    return dict(choice) if isinstance(choice, Mapping) else choice


def _accumulator(given: Accumulator | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None or isinstance(given, Accumulator):
        return None if given is None else asdict(given)
    known = {field.name for field in fields(Accumulator)}
    try:
        if isinstance(given, Mapping) and set(given) <= known:
            return asdict(Accumulator(**given))
    except TypeError as error:
        raise ValueError(f"accumulator of a configuration: {error}") from None
    raise ValueError(f"accumulator of a configuration has {', '.join(sorted(known))}; got {given!r}")


def _layers(given: Mapping[str, Sequence[str | None]] | None) -> dict[str, list[str | None]] | None:
    if given is None:
        return None
    for couple in given.values() if isinstance(given, Mapping) else [given]:
        if not isinstance(couple, list | tuple) or len(couple) != 2 or couple[0] is None:
            raise ValueError("layers of a configuration have a couple of pairs each, as ['bnn++', null] for weights "
                             f"and inputs, by their names; got {couple!r}")  # fmt: skip
        _named("layers", dict(enumerate(couple)))  # type: ignore[arg-type]  # only the values are checked
    return {name: list(pairs) for name, pairs in given.items()}


def _strings(key: str, given: Any, kind: Any) -> list[str] | None:
    if given is None:
        return None
    if not isinstance(given, kind) or not all(isinstance(name, str) for name in given):
        wanted = "is 'edges', patterns on names of layers" if key == "keep" else "are a list of names of layers"
        raise ValueError(f"{key} of a configuration {wanted}, or null; got {given!r}")
    return list(given)


@register_quantizer(METHOD)
class ProxConnectQuantizer(HfQuantizer):  # type: ignore[misc]  # mypy skips transformers
    """The hooks that transformers calls: float networks are binarized after their weights load, binary ones before.

    Loading raises ValueError if a binary checkpoint lacks a latent weight, or a float one every weight to binarize.
    """

    quantization_config: ProxConnectConfig
    is_trainable = is_qat_trainable = True

    def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> None:
        if self.pre_quantized:
            self.quantization_config.binarize_again(model)

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        if not self.pre_quantized:
            self.quantization_config.binarize(model)
        layers = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
        missing = [name for name, layer in layers.items() if not getattr(layer.latent, "_is_hf_initialized", False)]
        if self.pre_quantized and missing:
            raise ValueError(
                f"the checkpoint has no latents for {some(missing)}: it is that of a float network, though its "
                "config.json says that it is binary. Remove quantization_config from config.json, and pass it to "
                "from_pretrained"
            )
        if len(missing) == len(layers):
            raise ValueError(
                f"the checkpoint has no weights for {some(missing)}, or for any layer that would become binary: if it "
                "is that of a binary network, its config.json must have the quantization_config that save_pretrained "
                "wrote"
            )
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Store the layers with learned thresholds in the configuration, and return (None, {}): no tensor changes.

        With binary embeddings return the state dict in which each name of a μ that tied layers share has its own
        tensor. Otherwise the file has one of them, and transformers overwrites the others when it loads it.

        Warn of binary layers that the configuration lacks, because `from_pretrained` could not load the saved files.
        """
        config = self.quantization_config
        binary = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
        known = tuple(f"{layer}." if layer else "" for layer in config.layers or ())
        unknown = [name for name in binary if not f"{name}.".startswith(known)]
        if unknown:
            warnings.warn(
                f"{some(unknown)} became binary after the network was loaded, which its config.json does not say: "
                "from_pretrained cannot load what is saved. Let ProxConnectConfig choose the layers, or save a network "
                "with binary parameters by torch.save(model.state_dict(), path), or packed by pc.save",
                stacklevel=3,
            )
        config.thresholds = [name for name, layer in binary.items() if layer.input_shift is not None] or None
        if not config.embeddings:
            return None, {}
        state = model.state_dict()
        return {name: t.clone() if name.endswith("_quantizer.mu") else t for name, t in state.items()}, {}

    def is_serializable(self, **_: Any) -> bool:
        """Return True: transformers can save the model, because latent weights and μ are ordinary tensors."""
        return True
