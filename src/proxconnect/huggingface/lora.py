"""peft: LoRA on top of binary linear layers, which can be trained but not be merged into them."""

from typing import Any

from peft import LoraConfig
from peft.tuners.lora import Linear

from proxconnect.layers import BinaryLayer, BinaryLinear


def for_binary(config: LoraConfig) -> LoraConfig:
    """The same `config`, by which `peft.get_peft_model` puts a `LoraBinaryLinear` around each binary linear layer.

    With a plain `LoraConfig` such adapters train likewise, but peft's `merge` then writes to a copy of the weight, and
    the adapter is lost without a word. TypeError for targets that are other binary layers: the adapters of a
    convolution would be of the layer's own class, and so binary themselves.
    """
    around: dict[Any, Any] = {BinaryLinear: LoraBinaryLinear, BinaryLayer: _refuse}
    config._register_custom_module(around)
    return config


class LoraBinaryLinear(Linear):
    """peft's layer around a `BinaryLinear`: what that answers, plus B·A·x."""

    def merge(self, *_: Any, **__: Any) -> None:
        """TypeError, whatever the arguments."""
        raise TypeError("an adapter cannot be merged into a binary layer, since ±α + B·A is not binary: keep it beside "
                        "the layer, or merge it into the float network and binarize that")  # fmt: skip


def _refuse(target: Any, adapter_name: str, **_: Any) -> None:
    raise TypeError(f"there are adapters for BinaryLinear alone, not for {type(target).__name__}: leave it out of the "
                    "target_modules")  # fmt: skip
