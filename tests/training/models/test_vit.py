"""The small vision transformer: sizes, what becomes binary, and what it answers packed."""

import pytest
import torch

import proxconnect as pc
from proxconnect.layers import BinaryLayer
from proxconnect.training.models.names import small_vit, usual_patch

pytest.importorskip("timm")


@pytest.mark.parametrize(("size", "patch"), [(28, 7), (32, 4), (14, 2), (16, 4), (8, 2), (224, 7), (29, 1), (4, 1)])
def test_the_usual_patch_leaves_four_or_more_in_a_row(size, patch):
    assert usual_patch(size) == patch


def test_sizes_are_options():
    model = small_vit(14, in_channels=3, classes=4, patch=7, dim=16, depth=2, heads=2)
    assert model(torch.randn(2, 3, 14, 14)).shape == (2, 4)
    assert model.pos_embed.shape == (1, 5, 16)
    assert len(model.blocks) == 2
    assert model.blocks[0].attn.num_heads == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 30, "patch": 4}, "patches of 4 do not fill images of 30"),
        ({"image_size": 3}, "too small"),
        ({"dim": 30}, "4 heads do not share out tokens of 30"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_vit(**arguments)


@pytest.mark.parametrize("activations", [None, "poly"])
def test_all_but_patches_and_head_become_binary_train_and_pack(activations):
    example = torch.randn(2, 1, 28, 28)
    model = pc.binarize(small_vit(dim=32, depth=2, heads=2), "bnn++", activations, example=example)
    binary = {name for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert binary == {f"blocks.{block}.{layer}" for block in range(2) for layer in layers}
    model(example).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    packed = pc.pack(model, example=example)
    torch.testing.assert_close(packed(example), model.eval()(example), atol=1e-5, rtol=1e-5)
