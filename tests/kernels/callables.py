"""Every callable of the kernels on small tensors, for tests of what holds for all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect.kernels import Add, Affine, Bits, Clamp, Slope
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.finish import FinishMaxPool2d
from proxconnect.kernels.layer_norm import LayerNorm
from proxconnect.kernels.pixel_means import PixelMeans

Tensors = dict[str, Tensor]
WIDTH, IMAGE = 70, (70, 70, 3, 3)


def tensors() -> Tensors:
    """What the callables below take, by name."""
    generator = torch.Generator().manual_seed(0)
    weight, levels = (torch.randn(*IMAGE, generator=generator) for _ in range(2))
    whole = (20 * levels).round().clamp(-127, 127).to(torch.int8)
    images = [torch.randn(2, WIDTH, 6, 5, generator=generator) for _ in range(2)]
    vectors = {name: torch.randn(WIDTH, generator=generator) for name in ("scale", "bias", "a", "b", "shift")}
    return vectors | {
        "rows": torch.randn(9, WIDTH, generator=generator),
        "other": torch.randn(9, WIDTH, generator=generator),
        "wide image": torch.randn(2, 64, 6, 5, generator=generator).contiguous(memory_format=torch.channels_last),
        "image": images[0].contiguous(memory_format=torch.channels_last),
        "other image": images[1].contiguous(memory_format=torch.channels_last),
        "qkv": torch.randn(2, 20, 3 * 32, generator=generator),
        "float weight": levels,
        "panels": kernels.panels(pack_bits(weight[..., 0, 0]), WIDTH, WIDTH),
        "conv panels": kernels.conv_panels(pack_bits(weight), IMAGE),
        "patch panels": kernels.patch_panels(pack_bits(weight), IMAGE),
        "int8 panels": kernels.int8_panels(whole[..., 0, 0].contiguous()),
        "int8 conv panels": kernels.int8_panels(whole),
    }


def steps(t: Tensors) -> tuple[Any, ...]:
    """One of each kind."""
    return Affine(t["a"], t["b"]), Slope(t["a"]), Clamp(-30.0, 30.0), Add()


@dataclass(frozen=True)
class Subject:
    """A callable of the kernels: how to make it, and on which of the tensors it is called."""

    make: Callable[[Tensors], Callable[..., Any]]
    inputs: tuple[str, ...]

    def __call__(self, t: Tensors) -> list[Tensor]:
        return self.answer(self.make(t), t)

    def answer(self, made: Callable[..., Any], t: Tensors) -> list[Tensor]:
        """The tensors of its answer."""
        answer = made(*(t[name] for name in self.inputs))
        return [part for part in answer if isinstance(part, Tensor)] if isinstance(answer, Bits) else [answer]


def _of_rows(function: Callable[..., Any], panels: str, t: Tensors) -> Callable[..., Any]:
    return partial(function, panels=t[panels], out_features=WIDTH, scale=t["scale"], bias=t["bias"])


def _of_images(function: Callable[..., Any], panels: str, t: Tensors) -> Callable[..., Any]:
    return partial(function, panels=t[panels], weight_shape=IMAGE, scale=t["scale"], bias=t["bias"])


def _attention(t: Tensors) -> Callable[..., Any]:
    return lambda qkv: kernels.attention(*qkv.unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4).unbind(0))


_SIZES = WIDTH, WIDTH
_POOL = nn.MaxPool2d(2)

SUBJECTS: dict[str, Subject] = {
    "attention": Subject(_attention, ("qkv",)),
    "attention_of_rows": Subject(lambda t: partial(kernels.attention_of_rows, heads=2), ("qkv",)),
    "binary_linear": Subject(lambda t: _of_rows(kernels.binary_linear, "panels", t), ("rows",)),
    "weight_only_linear": Subject(lambda t: _of_rows(kernels.weight_only_linear, "panels", t), ("rows",)),
    "dynamic_int8_linear": Subject(lambda t: _of_rows(kernels.dynamic_int8_linear, "panels", t), ("rows",)),
    "int8_linear": Subject(lambda t: _of_rows(kernels.int8_linear, "int8 panels", t), ("rows",)),
    "binary_conv2d": Subject(lambda t: _of_images(kernels.binary_conv2d, "conv panels", t), ("image",)),
    "weight_only_conv2d": Subject(lambda t: _of_images(kernels.weight_only_conv2d, "patch panels", t), ("image",)),
    "dynamic_int8_conv2d": Subject(lambda t: _of_images(kernels.dynamic_int8_conv2d, "patch panels", t), ("image",)),
    "int8_conv2d": Subject(lambda t: _of_images(kernels.int8_conv2d, "int8 conv panels", t), ("image",)),
    "FusedLinear": Subject(
        lambda t: kernels.FusedLinear(t["panels"], *_SIZES, t["scale"], t["bias"], then=steps(t)), ("rows", "other")
    ),
    "FusedFloatLinear": Subject(
        lambda t: kernels.FusedFloatLinear(t["panels"], *_SIZES, t["scale"], t["bias"], steps(t)), ("rows", "other")
    ),
    "FusedInt8Linear": Subject(
        lambda t: kernels.FusedInt8Linear(t["int8 panels"], *_SIZES, t["scale"], t["bias"], steps(t)),
        ("rows", "other"),
    ),
    "FusedConv2d": Subject(
        lambda t: kernels.FusedConv2d(
            t["conv panels"], IMAGE, padding=(1, 1), scale=t["scale"], bias=t["bias"], then=steps(t),
            input_shift=t["shift"],
        ),
        ("image", "other image"),
    ),
    "FusedWeightOnlyConv2d": Subject(
        lambda t: kernels.FusedWeightOnlyConv2d(
            t["patch panels"], IMAGE, padding=(1, 1), scale=t["scale"], bias=t["bias"], then=steps(t)
        ),
        ("image", "other image"),
    ),
    "FusedInt8Conv2d": Subject(
        lambda t: kernels.FusedInt8Conv2d(
            t["int8 conv panels"], IMAGE, padding=(1, 1), scale=t["scale"], bias=t["bias"], then=steps(t)
        ),
        ("image", "other image"),
    ),
    "FusedFloatConv2d": Subject(
        lambda t: kernels.FusedFloatConv2d(t["float weight"], padding=(1, 1), bias=t["bias"], then=steps(t)),
        ("image", "other image"),
    ),
    "Finish": Subject(lambda t: kernels.Finish(steps(t), WIDTH), ("image", "other image")),
    "LayerNorm": Subject(lambda t: LayerNorm(WIDTH, t["scale"], t["bias"]), ("rows",)),
    "PixelMeans": Subject(lambda t: PixelMeans(), ("wide image",)),
    "FinishMaxPool2d": Subject(lambda t: FinishMaxPool2d(steps(t)[:-1], WIDTH, _POOL), ("image",)),
}  # fmt: skip
"""By the name of the function or class."""

OTHERS = {
    "Add", "Affine", "Bits", "Clamp", "Gelu", "Signs", "Slope", "conv_panels", "group_scales", "has_float_kernels",
    "instruction_sets", "int8_panels", "is_built", "panels", "patch_panels",
}  # fmt: skip
"""The callables of `proxconnect.kernels` that call no kernel."""

if kernels.is_built() and not kernels.has_float_kernels():
    del SUBJECTS["FusedFloatConv2d"]
    OTHERS.add("FusedFloatConv2d")
