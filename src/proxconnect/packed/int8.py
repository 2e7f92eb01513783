"""Layers of 8-bit weights, for what stays float in a binary network: the stem, shortcuts, the head."""

from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.kernels.int8_panels import MOST_ENTRIES
from proxconnect.layers.products import ConvProduct, LinearProduct
from proxconnect.packed.geometry import geometry_of
from proxconnect.packed.panels import PanelLayer
from proxconnect.packed.spec import LayerSpec

_FAST_SETS = ("avx2", "avx512")
"""The instruction sets whose kernels are faster than torch's float32."""

_LEAST = 2.0**-100  # 127 divided by less might be infinite


class Int8Layer(PanelLayer):
    """Mixin over a float layer of torch's: whole numbers within ±127 as weight and as input, summed as integers.

    `levels` is int8, of the weight's shape; the weight is `scale · levels`, with `scale` of shape (out,), max|w| / 127
    of each output channel, so that an entry of the weight is off by at most scale / 2. The input is rounded to steps of
    t = max|x| / 127, halves to even, of each row of a linear layer and each image of a convolution, and off by at most
    t / 2. An output so differs from the float layer's by at most (scale / 2) · Σ|x| + (t / 2) · Σ|scale · levels|, sums
    of the entries that it is a sum of, up to the rounding of float32 and of a scale that is rounded to float16; `error`
    measures it. Gradients pass as if nothing were rounded.
    """

    held = "levels"
    own_state = ("levels", "scale")
    levels: Tensor
    float_type: ClassVar[type[nn.Module]]
    """The class of the float layer, subclasses excepted."""
    rounded_together: ClassVar[tuple[int, ...]]
    """The dimensions of the input whose entries share a step."""

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """The float layer's class for itself alone."""
        return cls.float_type if candidate is cls.float_type else None

    @classmethod
    def float_name(cls) -> str:
        """The name of the float layer's class."""
        return cls.float_type.__name__

    def forward(self, input: Tensor) -> Tensor:
        """What the float layer answers, within the bound above, by kernels and by torch alike."""
        input = self.seen(input)
        if self.kernels_can(input, self.bias):
            return self._by_kernels(input.float()).to(input.dtype)
        if torch.is_grad_enabled() and input.requires_grad:
            return self._with_gradient(input)
        return self._by_torch(input)

    def seen(self, input: Tensor) -> Tensor:
        """What of an input is rounded."""
        return input

    def fault(self) -> str:
        """As of every compact layer, and of scales and levels that are no scales and levels."""
        if bool((self.scale < 0).any()):
            return "a scale is negative"
        return "a weight is -128, beyond ±127" if bool((self.levels == -128).any()) else super().fault()

    def extra_repr(self) -> str:
        """The float layer's, and what is packed."""
        return f"{super().extra_repr()}, 8 bits"

    def _numbers(self) -> Tensor:
        return self.levels.to(self.scale.dtype)

    def _by_kernels(self, input: Tensor) -> Tensor:
        raise NotImplementedError

    def _by_torch(self, input: Tensor) -> Tensor:
        wide = torch.promote_types(input.dtype, torch.float32)
        with nullcontext() if input.is_meta else torch.autocast(input.device.type, enabled=False):
            whole, step = self._rounded(input.to(wide))
            output = self.multiply(whole, self.levels.to(wide), None) * step
            output = output * self._along_output(self.scale.to(wide))
            if self.bias is not None:
                output = output + self._along_output(self.bias.to(wide))
        return output.to(input.dtype)

    def _with_gradient(self, input: Tensor) -> Tensor:
        """The product in float, whose input is rounded for the value alone."""
        with torch.no_grad():
            whole, step = self._rounded(input)
            change = whole * step - input
        return self.multiply(input + change, self.weight, self.bias)

    def _rounded(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers within ±127, and the steps; halves go to even."""
        most = input.abs().amax(self.rounded_together, keepdim=True).clamp(min=_LEAST)
        # Two tensors are divided: 127 / tensor would be 127 times a reciprocal, which rounds twice.
        return torch.round(input * (torch.full_like(most, 127) / most)), most / torch.full_like(most, 127)


class Int8Linear(Int8Layer, LinearProduct, nn.Linear):
    """`nn.Linear` with 8-bit weights and inputs; `layer.weight` unpacks the weights."""

    kind = "int8_linear"
    float_type = nn.Linear
    rounded_together = (-1,)

    def _by_kernels(self, input: Tensor) -> Tensor:
        assert self.panels is not None
        if input.shape[-1:] != self.levels.shape[1:]:  # the panels tell it only to the next multiple of 64
            raise ValueError(f"input must be (…, {self.levels.shape[1]}); got {tuple(input.shape)}")
        return kernels.int8_linear(input, self.panels, self._spec.shape[0], self.kernel_scale(), self.kernel_bias())

    def _panels(self) -> Tensor | None:
        return kernels.int8_panels(self.levels) if _are_fast() and self._spec.shape[1] <= MOST_ENTRIES else None


class Int8Conv2d(Int8Layer, ConvProduct, nn.Conv2d):
    """`nn.Conv2d` with 8-bit weights and inputs; `layer.weight` unpacks the weights.

    Where a patch is one pixel, pixels that the stride passes over do not count for the step of their image.
    """

    kind = "int8_conv2d"
    float_type = nn.Conv2d
    rounded_together = (-3, -2, -1)

    def seen(self, input: Tensor) -> Tensor:
        """The pixels that are in a patch, in the memory format of the input."""
        if not self._sees_pixels():
            return input
        height, width = self.stride_of_seen()
        pixels = input[..., ::height, ::width]
        return pixels.contiguous() if input.is_contiguous() else pixels

    def stride_of_seen(self) -> tuple[int, int]:
        """What of the stride is taken before an image is rounded, (1, 1) unless a patch is one pixel."""
        height, width = self.stride if self._sees_pixels() else (1, 1)
        return height, width

    def kernel_geometry(self) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int], tuple[int, ...]]:
        """Shape, stride, padding and dilation as the kernels take them, of what is `seen` of an image."""
        pad = self._reversed_padding_repeated_twice
        height, width = (1, 1) if self._sees_pixels() else self.stride
        return self._spec.shape, (height, width), (pad[2], pad[0]), self.dilation

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """As `nn.Conv2d`, of what is `seen` of an input."""
        if self._sees_pixels():
            return functional.conv2d(input, weight, bias, groups=self.groups)
        return super().multiply(input, weight, bias, *args)

    def _sees_pixels(self) -> bool:
        return self.kernel_size == (1, 1) and self.padding in ((0, 0), "valid", "same")

    def _by_kernels(self, input: Tensor) -> Tensor:
        assert self.panels is not None
        pad = self._reversed_padding_repeated_twice
        shape, stride, padding, dilation = self.kernel_geometry()
        if self.padding_mode != "zeros":
            input, padding = functional.pad(input, pad, mode=self.padding_mode), (0, 0)
        elif pad[::2] != pad[1::2]:  # "same" may be larger behind
            input, padding = functional.pad(input, pad), (0, 0)
        batch = input if input.dim() == 4 else input[None]
        output = kernels.int8_conv2d(
            batch, self.panels, shape, stride, padding, dilation, self.kernel_scale(), self.kernel_bias()
        )  # fmt: skip
        return output if batch is input else output[0]

    def _panels(self) -> Tensor | None:
        can = self.groups == 1 and self.levels[0].numel() <= MOST_ENTRIES
        return kernels.int8_panels(self.levels, self.dilation) if can and _are_fast() else None


INT8: dict[type[nn.Module], type[Int8Layer]] = {form.float_type: form for form in (Int8Linear, Int8Conv2d)}
"""The 8-bit form of a float layer, by its exact class."""


def int8_spec(layer: nn.Module) -> LayerSpec:
    """What the 8-bit form of an `nn.Linear` or `nn.Conv2d` is."""
    weight = layer._parameters["weight"]
    assert weight is not None
    return LayerSpec(
        INT8[type(layer)].kind, tuple(weight.shape), "channel", weight.dtype, False, None, 0, geometry_of(layer), None
    )


def levels_of(weight: Tensor, scale: Tensor) -> Tensor:
    """The whole numbers within ±127 that are nearest to weight / scale, one of each output; halves go to even."""
    steps = scale.double().view(-1, *(1,) * (weight.dim() - 1))
    levels = torch.where(steps > 0, weight.double() / steps, 0.0)
    return levels.round_().clamp_(-127, 127).to(torch.int8)


def scale_of(weight: Tensor) -> Tensor:
    """max|w| / 127 of each output, (out,), in the weight's dtype; 0 for weights of 0."""
    return (weight.double().abs().flatten(1).amax(1) / 127).to(weight.dtype)


@torch.no_grad()
def error(layer: Int8Layer, float_layer: nn.Linear | nn.Conv2d, input: Tensor) -> tuple[float, float]:
    """How far an 8-bit layer is from its float one on an input, and how far it may be, relative to the largest output.

    Returns max|y − y'| and the largest bound of an output, as `Int8Layer` states it, both over max|y'|, where y' is the
    float layer's output in float64. ValueError where there is no output other than 0.
    """
    weight, bias = float_layer.weight.double(), None if float_layer.bias is None else float_layer.bias.double()
    x = layer.seen(input.double())
    exact = layer.multiply(x, weight, bias)
    largest = exact.abs().max() if exact.numel() else torch.zeros(())
    if not largest > 0:
        raise ValueError("an error is relative to the largest output, and there is none but 0: pass another input")
    half_step = (x.abs().amax(layer.rounded_together, keepdim=True) / 254).expand_as(x).contiguous()
    scale = layer.scale.double().view(-1, *(1,) * (weight.dim() - 1)).expand_as(weight)
    held = layer.levels.double() * scale
    bound = layer.multiply(x.abs(), scale / 2, None) + layer.multiply(half_step, held.abs(), None)
    measured = (layer(input).double() - exact).abs().max()
    return float(measured / largest), float(bound.max() / largest)


def _are_fast() -> bool:
    return bool(kernels.instruction_sets()) and kernels.instruction_sets()[-1] in _FAST_SETS
