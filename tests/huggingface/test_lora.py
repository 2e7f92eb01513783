"""LoRA around binary layers trains, and is not merged into them."""

from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.huggingface.lora import for_binary
from proxconnect.layers import BinaryLayer


class Net(nn.Module):
    """A convolution and linear layers, of which the inner ones become binary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.linear, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.linear(self.conv(self.stem(image)).mean((2, 3))))


def adapted(*targets: str, **options: Any) -> nn.Module:
    config = for_binary(peft.LoraConfig(target_modules=list(targets), **options))
    return peft.get_peft_model(pc.binarize(Net()), config)


def test_adapters_train_while_the_binary_base_stays() -> None:
    model = adapted("linear").train()
    layers = [m for m in model.modules() if isinstance(m, BinaryLayer)]
    before = [layer.latent.detach().clone() for layer in layers]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # B starts at 0, so that A has a gradient in the second step alone
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    adapters = {name: p for name, p in model.named_parameters() if "lora_" in name}
    assert len(adapters) == 2
    assert all(p.grad is not None and p.grad.any() for p in adapters.values())
    assert [type(layer) for layer in layers] == [pc.BinaryConv2d, pc.BinaryLinear]
    assert all(torch.equal(layer.latent, latent) for layer, latent in zip(layers, before, strict=True))


@pytest.mark.parametrize("merge", ["merge_adapter", "merge_and_unload"])
def test_merging_is_refused_and_loses_nothing(merge: str) -> None:
    model, image = adapted("linear", init_lora_weights=False).eval(), torch.randn(2, 3, 8, 8)
    before = model(image)
    with pytest.raises(TypeError, match="±α"):
        getattr(model, merge)()
    assert torch.equal(model(image), before)


def test_the_merge_of_a_plain_adapter_is_refused() -> None:
    config = peft.LoraConfig(target_modules=["linear"], init_lora_weights=False)
    model, image = peft.get_peft_model(pc.binarize(Net()), config).eval(), torch.randn(2, 3, 8, 8)
    before = model(image)
    with pytest.raises(TypeError, match="an adapter cannot be merged into ±α"):
        model.merge_adapter()
    assert torch.equal(model(image), before)


def test_float_layers_still_merge() -> None:
    model, image = adapted("last", init_lora_weights=False).eval(), torch.randn(2, 3, 8, 8)
    before = model(image)
    torch.testing.assert_close(model.merge_and_unload()(image), before)


def test_other_binary_layers_are_refused() -> None:
    with pytest.raises(TypeError, match="for BinaryLinear alone, not for BinaryConv2d"):
        adapted("conv")
    attending = pc.binarize(nn.TransformerEncoderLayer(8, 2), "bnn++", keep=None)
    config = for_binary(peft.LoraConfig(target_modules=["self_attn"]))
    with pytest.raises(TypeError, match="not for BinaryMultiheadAttention"):
        peft.get_peft_model(attending, config)


def test_adapters_that_were_there_first_stay_float() -> None:
    """The edges are those of the network below, not the adapter that is registered last."""
    model = peft.get_peft_model(Net(), peft.LoraConfig(target_modules=["linear", "last"], init_lora_weights=False))
    example, before = torch.randn(2, 3, 8, 8), {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert pc.plan(model, example=example).binary == pc.plan(model).binary
    plan = pc.binarize(model).binarization
    inside = "base_model.model."
    assert plan.binary == (f"{inside}conv", f"{inside}linear.base_layer")
    assert plan.floats[f"{inside}linear.lora_A.default"] == "adapter of peft"
    assert plan.floats[f"{inside}last.base_layer"] == "edge: the last layer registered"
    assert {n: p for n, p in model.named_parameters() if "lora_" in n}.keys() == before.keys()
    model(example).sum().backward()
    assert all(p.grad is not None for p in before.values())
    with pytest.raises(ValueError, match=r"fits only layers that stay float: .*adapter of peft"):
        pc.plan(peft.get_peft_model(Net(), peft.LoraConfig(target_modules=["linear"])), {"*lora_A*": "bnn", "*": "bc"})
