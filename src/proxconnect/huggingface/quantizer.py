"""transformers: networks that `from_pretrained` makes binary, or loads binary as `save_pretrained` wrote them."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from proxconnect._support.text import some
from proxconnect.conversion import binarize
from proxconnect.conversion.patterns import Keep
from proxconnect.huggingface import plain
from proxconnect.huggingface.plain import Names
from proxconnect.layers import Accumulator, BinaryLayer, add_thresholds
from proxconnect.pairs import PAIRS
from proxconnect.quantizer.quantizer import Scale

METHOD = "proxconnect"
"""What `quant_method` says in a config.json."""


@register_quantization_config(METHOD)
class ProxConnectConfig(QuantizationConfigMixin):
    """How `from_pretrained(name, quantization_config=...)` makes a network binary, as `binarize` takes it.

    Importing this module is what tells transformers of it. A float checkpoint is loaded and then made binary. A binary
    one, written by `save_pretrained`, says all of this itself, and which layers are binary: it needs no argument.

    Args:
        weights, activations: names of `PAIRS`, or mappings from patterns on layers to names, as JSON holds them.
        scale, keep, padding_value: as of `binarize`.
        accumulator: an `Accumulator`, or its fields as a mapping.
        layers: by the name of each binary layer, the pairs of its weights and inputs; `save_pretrained` writes it.
        thresholds: the names of the layers whose inputs have learned thresholds, which `add_thresholds` made;
            `save_pretrained` writes it.

    ValueError for what JSON cannot hold, no pair has as its name, or no such argument can be.
    """

    def __init__(
        self, /, weights: Names = "bnn++", activations: Names = None, *, scale: Scale = "channel",
        keep: str | Sequence[str] | None = "edges", accumulator: Accumulator | Mapping[str, Any] | None = None,
        padding_value: int = 0, layers: Mapping[str, Sequence[str | None]] | None = None,
        thresholds: Sequence[str] | None = None, **unknown: Any,
    ) -> None:  # fmt: skip
        unknown.pop("quant_method", None)
        if unknown:
            raise ValueError(
                f"ProxConnectConfig knows no {', '.join(sorted(unknown))}: this file may be of a newer version"
            )
        self.quant_method = METHOD  # type: ignore[assignment]  # it is typed as one of transformers' own
        self.weights, self.activations = plain.names("weights", weights), plain.names("activations", activations)
        if weights is None:
            raise ValueError(f"weights of a configuration is null: name a pair ({', '.join(PAIRS)})")
        self.scale, self.keep, self.padding_value = scale, plain.kept(keep), padding_value
        self.accumulator, self.layers = plain.accumulator(accumulator), plain.layers(layers)
        self.thresholds = plain.thresholds(thresholds)

    def binarize(self, model: nn.Module) -> None:
        """Make a float network binary, and note the pairs of each layer in `layers`."""
        self._binarize(model, self.weights, self.activations, self.keep)
        plan: Any = model.binarization
        self.layers = {row.name: [row.weights, row.activations] for row in plan.rows if row.weights is not None}

    def binarize_again(self, model: nn.Module) -> None:
        """Make a float network binary as `layers` says."""
        layers = self.layers or {}
        weights, inputs = ({_exactly(name): pairs[i] for name, pairs in layers.items()} for i in (0, 1))
        self._binarize(model, weights, inputs if any(inputs.values()) else None, None)

    def note_later_changes(self, model: nn.Module) -> None:
        """Note which layers of a binary network have learned thresholds, in `thresholds`.

        Warns of layers that became binary after the network was loaded, which `layers` does not have: whoever holds the
        network, as a Trainer does, goes on from what is saved, but `from_pretrained` cannot load it.
        """
        binary = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
        unknown = [name for name in binary if not _is_within(name, self.layers or {})]
        if unknown:
            warnings.warn(
                f"{some(unknown)} became binary after the network was loaded, which its config.json does not say: "
                "from_pretrained cannot load what is saved. Let ProxConnectConfig choose the layers, or save a network "
                "with binary parameters by torch.save(model.state_dict(), path), or packed by pc.save",
                stacklevel=4,
            )
        self.thresholds = [name for name, layer in binary.items() if layer.input_shift is not None] or None

    def _binarize(self, model: nn.Module, weights: Names, activations: Names, keep: Keep) -> None:
        accumulator = None if self.accumulator is None else Accumulator(**self.accumulator)
        binarize(model, weights, activations, scale=self.scale, accumulator=accumulator, keep=keep,
                 padding_value=self.padding_value)  # fmt: skip
        modules = dict(model.named_modules())
        for name in self.thresholds or ():
            layer = modules.get(name)
            if not isinstance(layer, BinaryLayer) or not layer.has_binary_input:
                raise ValueError(
                    f"the configuration has thresholds of {name!r}, which is no layer with binary inputs here: load "
                    "the network that was saved, with the config.json that was saved with it"
                )
            add_thresholds(layer)


def _is_within(name: str, layers: Collection[str]) -> bool:
    """Whether it is the name of one of `layers`, or of a module in one, as a projection is of an attention."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in layers for end in range(len(parts) + 1))


def _exactly(name: str) -> str:
    """A pattern that fits this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


@register_quantizer(METHOD)
class ProxConnectQuantizer(HfQuantizer):
    """What transformers calls while it loads such a network."""

    quantization_config: ProxConnectConfig

    def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> None:
        if self.pre_quantized:
            self.quantization_config.binarize_again(model)

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        if not self.pre_quantized:
            self.quantization_config.binarize(model)
        _require_loaded(model, self.pre_quantized)
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[None, dict[str, Any]]:
        """Called before config.json is written."""
        self.quantization_config.note_later_changes(model)
        return None, {}

    def is_serializable(self, **_: Any) -> bool:
        """Latents and μ are tensors as others are."""
        return True

    @property
    def is_trainable(self) -> bool:
        """That is what they are for."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """By transformers' Trainer too."""
        return True


def _require_loaded(model: nn.Module, is_binary: bool) -> None:
    """ValueError where a checkpoint that should be binary was float, or the other way round."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    missing = [name for name, layer in layers.items() if not getattr(layer.latent, "_is_hf_initialized", False)]
    if is_binary and missing:
        raise ValueError(
            f"the checkpoint has no latents for {some(missing)}: it is that of a float network, though its config.json "
            "says that it is binary. Remove quantization_config from config.json, and pass it to from_pretrained"
        )
    if len(missing) == len(layers):
        raise ValueError(
            f"the checkpoint has no weights for {some(missing)}, nor for any layer that would become binary: if it is "
            "that of a binary network, its config.json must have the quantization_config that save_pretrained wrote"
        )
