"""LoRA of peft on binary linear layers: adapters that can be trained, but not merged."""

from typing import Any

from peft import LoraConfig
from peft.tuners.lora import Linear

from proxconnect._support.arguments import require_type
from proxconnect.layers import BinaryLayer, BinaryLinear, BinaryMultiheadAttention


def for_binary(config: LoraConfig) -> LoraConfig:
    """Make `get_peft_model` put a `LoraBinaryLinear` around each binary linear target; return the changed `config`.

    With a plain `LoraConfig` adapters of linear layers train too, and `merge` raises as well. `get_peft_model` raises
    TypeError if a target is another binary layer: the adapter of a convolution would be of the same class, and so
    binary itself.
    """
    require_type(config, LoraConfig, "for_binary takes peft's LoraConfig as config")
    wrappers = {BinaryLinear: LoraBinaryLinear, BinaryLayer: _refuse, BinaryMultiheadAttention: _refuse}
    config._register_custom_module(wrappers)  # type: ignore[arg-type]
    return config


class LoraBinaryLinear(Linear):
    """peft's LoRA layer around a `BinaryLinear`: its output plus the scaled B·A·x of the active adapters."""

    def merge(self, *_: Any, **__: Any) -> None:
        """Raise TypeError: an adapter cannot be merged, because the sum of the weight ±α and B·A is not binary."""
        raise TypeError("an adapter cannot be merged into a binary layer, since ±α + B·A is not binary: keep it beside "
                        "the layer, or merge it into the float network and binarize that")  # fmt: skip


def _refuse(target: Any, adapter_name: str, **_: Any) -> None:
    raise TypeError(f"there are adapters for BinaryLinear alone, not for {type(target).__name__}: leave it out of the "
                    "target_modules")  # fmt: skip
