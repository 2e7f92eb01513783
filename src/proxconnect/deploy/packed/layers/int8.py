"""Layers of 8-bit weights, for the float layers of a binary network: its stem, shortcuts, head and embeddings."""

from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.kernels.arguments import INT8
from proxconnect.layers.products import ConvProduct, LinearProduct

_LEAST = 2.0**-100  # 127 divided by a smaller number might be infinite


class Int8Layer(CompactLayer):
    """Mixin over a torch layer whose weight is `scale · levels`, off by at most scale / 2 an entry, up to rounding.

    `levels` is int8, within ±127, and shaped as the weight. `scale`, (out,), is the rounded max|w| / 127 of each
    channel or row.
    """

    held = "levels"
    own_state = ("levels", "scale")
    levels: Tensor
    float_type: ClassVar[type[nn.Module]]
    """The class of the float layers that this class is the 8-bit form of; their subclasses stay float."""

    def fault(self) -> str:
        """Return in words what is wrong with the loaded `scale` or `levels`, or "" if nothing is."""
        if bool((self.scale < 0).any()):
            return "a scale is negative"
        return "a weight is -128, beyond ±127" if bool((self.levels == -128).any()) else super().fault()

    def exact_and_bound(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return the float layer's output for its weight and bias in float64, and a bound on each entry's error."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the text that `repr` shows: the float layer's options and "8 bits"."""
        return f"{super().extra_repr()}, 8 bits"

    def _numbers(self) -> Tensor:
        return self.levels.to(self.scale.dtype)


class Int8Embedding(Int8Layer, nn.Embedding):
    """`nn.Embedding` with 8-bit weights. Outputs are off by half the scale of their row at most, up to rounding."""

    kind = "int8_embedding"
    float_type = nn.Embedding

    def forward(self, input: Tensor) -> Tensor:
        """Look up rows of `weight` by integers (…), as (…, dim) in the dtype of `scale`."""
        return functional.embedding(input, self.levels).to(self.scale.dtype) * self._scales(input)

    def exact_and_bound(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows (…, dim) of `weight` at the indices `input`, and half the scale of each row as (…, 1)."""
        return functional.embedding(input, weight), self._scales(input).double() / 2

    def _scales(self, input: Tensor) -> Tensor:
        return functional.embedding(input, self.scale.unsqueeze(-1))


class Int8Product(Int8Layer):
    """Mixin over an 8-bit layer that multiplies: it rounds its input too, and without gradients it sums integers.

    The input is rounded to steps of t = max|x| / 127, ties to even, and so is off by at most t / 2. Each row of a
    linear layer's input has its own step, and each image of a convolution's. An output differs from the float layer's
    by at most (scale / 2) · Σ|x| + (t / 2) · Σ|scale · levels|, where Σ runs over the entries that it sums. This holds
    up to the rounding of float32 or the input's dtype, and of a scale in float16. Gradients pass the rounding of the
    input unchanged.
    """

    rounded_together: ClassVar[tuple[int, ...]]
    """The dimensions of the input whose entries share a step."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute the float layer's output within the bound of `Int8Product`, with kernels if they can compute it."""
        input = self.seen(input)
        if self.kernels_can(input, self.bias):
            return self._by_kernels(input.float()).to(input.dtype)
        if torch.is_grad_enabled() and input.requires_grad:  # multiply in float, with the gradient of the input itself
            with torch.no_grad():
                whole, step = self._rounded(input)
                change = whole * step - input
            return self.multiply(input + change, self.weight, self.bias)
        wide = torch.promote_types(input.dtype, torch.float32)
        with nullcontext() if input.is_meta else torch.autocast(input.device.type, enabled=False):
            whole, step = self._rounded(input.to(wide))
            output = self.multiply(whole, self.levels.to(wide), None) * step
            output = output * self._along_output(self.scale.to(wide))
            if self.bias is not None:
                output = output + self._along_output(self.bias.to(wide))
        return output.to(input.dtype)

    def seen(self, input: Tensor) -> Tensor:
        """Return the part of an input that the layer reads: here all of it."""
        return input

    def exact_and_bound(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return the float layer's output for its weight and bias in float64, and the bound of `Int8Product`."""
        x = self.seen(input.double())
        half_step = (x.abs().amax(self.rounded_together, keepdim=True) / 254).expand_as(x).contiguous()
        scale = self.scale.double().view(-1, *(1,) * (weight.dim() - 1)).expand_as(weight)
        held = self.levels.double() * scale
        bound = self.multiply(x.abs(), scale / 2, None) + self.multiply(half_step, held.abs(), None)
        return self.multiply(x, weight, bias), bound

    def _by_kernels(self, input: Tensor) -> Tensor:
        raise NotImplementedError

    def _rounded(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return whole numbers within ±127, ties rounded to even, and the steps."""
        most = input.abs().amax(self.rounded_together, keepdim=True).clamp(min=_LEAST)
        # Two tensors are divided: 127 / tensor would be 127 times a reciprocal, which rounds twice.
        return torch.round(input * (torch.full_like(most, 127) / most)), most / torch.full_like(most, 127)


class Int8Linear(Int8Product, LinearProduct, nn.Linear):
    """`nn.Linear` with 8-bit weights and inputs."""

    kind = "int8_linear"
    float_type = nn.Linear
    rounded_together = (-1,)

    def _by_kernels(self, input: Tensor) -> Tensor:
        assert self.prepacked is not None
        if input.shape[-1:] != self.levels.shape[1:]:  # the prepacked weight knows it up to the next multiple of 64
            raise ValueError(f"input must be (…, {self.levels.shape[1]}); got {tuple(input.shape)}")
        return kernels.int8_linear(input, self.prepacked, self._spec.shape[0], self.kernel_scale(), self.kernel_bias())

    def _prepacked(self) -> Tensor | None:
        return kernels.int8_panels(self.levels) if _are_fast() and self._spec.shape[1] <= INT8 else None


class Int8Conv2d(Int8Product, ConvProduct, nn.Conv2d):
    """`nn.Conv2d` with 8-bit weights and inputs. Pixels that a 1 × 1 kernel skips do not affect its rounding."""

    kind = "int8_conv2d"
    float_type = nn.Conv2d
    rounded_together = (-3, -2, -1)

    def seen(self, input: Tensor) -> Tensor:
        """Return the input, without the pixels that the stride skips if the kernel is 1 × 1 and does not pad."""
        if not self._sees_pixels():
            return input
        height, width = self.stride_of_seen()
        pixels = input[..., ::height, ::width]
        return pixels.contiguous() if input.is_contiguous() else pixels

    def stride_of_seen(self) -> tuple[int, int]:
        """Return the stride (height, width) that `seen` applies: (1, 1) unless the kernel is 1 × 1 and does not pad."""
        height, width = self.stride if self._sees_pixels() else (1, 1)
        return height, width

    def kernel_geometry(self) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int], tuple[int, ...]]:
        """Return the weight's shape, and stride, padding and dilation as (height, width), for an input from `seen`."""
        pad = self._reversed_padding_repeated_twice
        height, width = (1, 1) if self._sees_pixels() else self.stride
        return self._spec.shape, (height, width), (pad[2], pad[0]), self.dilation

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """Convolve an input from `seen` as the float layer does, with stride 1 if `seen` dropped the skipped pixels."""
        if self._sees_pixels():
            return functional.conv2d(input, weight, bias, groups=self.groups)
        return super().multiply(input, weight, bias, *args)

    def _sees_pixels(self) -> bool:
        return self.kernel_size == (1, 1) and self.padding in ((0, 0), "valid", "same")

    def _by_kernels(self, input: Tensor) -> Tensor:
        assert self.prepacked is not None
        pad = self._reversed_padding_repeated_twice
        shape, stride, padding, dilation = self.kernel_geometry()
        if self.padding_mode != "zeros":
            input, padding = functional.pad(input, pad, mode=self.padding_mode), (0, 0)
        elif pad[::2] != pad[1::2]:  # "same" may pad more at the end
            input, padding = functional.pad(input, pad), (0, 0)
        batch = input if input.dim() == 4 else input[None]
        output = kernels.int8_conv2d(
            batch, self.prepacked, shape, stride, padding, dilation, self.kernel_scale(), self.kernel_bias()
        )  # fmt: skip
        return output if batch is input else output[0]

    def _prepacked(self) -> Tensor | None:
        can = self.groups == 1 and self.levels[0].numel() <= INT8
        return kernels.int8_panels(self.levels, self.dilation) if can and _are_fast() else None


def levels_of(weight: Tensor, scale: Tensor) -> Tensor:
    """Return weight / scale, with a scale (out,), rounded to int8 within ±127, ties to even; 0 for a scale of 0."""
    steps = scale.double().view(-1, *(1,) * (weight.dim() - 1))
    levels = torch.where(steps > 0, weight.double() / steps, 0.0)
    return levels.round_().clamp_(-127, 127).to(torch.int8)


def scale_of(weight: Tensor) -> Tensor:
    """Return max|w| / 127 for each entry of the weight's first dimension: shape (out,), in the weight's dtype."""
    return (weight.double().abs().flatten(1).amax(1) / 127).to(weight.dtype)


@torch.no_grad()
def error(layer: Int8Layer, float_layer: nn.Module, input: Tensor) -> tuple[float, float]:
    """Return the largest absolute error of an 8-bit layer on an input, and the largest bound of `exact_and_bound`.

    `float_layer` is the layer from which it was made. The error is the difference from its output in float64, and both
    results are relative to the largest |entry| of that output. ValueError unless that is above 0.
    """
    weight, bias = float_layer.weight, getattr(float_layer, "bias", None)
    assert isinstance(weight, Tensor)
    exact, bound = layer.exact_and_bound(weight.double(), None if bias is None else bias.double(), input)
    largest = exact.abs().max() if exact.numel() else torch.zeros(())
    if not largest > 0:
        raise ValueError("an error is relative to the largest output, and there is none but 0: pass another input")
    return float((layer(input).double() - exact).abs().max() / largest), float(bound.max() / largest)


def _are_fast() -> bool:
    """Return True if the kernels are faster than torch in float32."""
    return "avx2" in kernels.instruction_sets()
