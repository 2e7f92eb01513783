"""The packed form of every layer. To pack a new kind of layer, add its class here and to `_FORMS`."""

from dataclasses import replace
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.deploy.packed.file.metadata import LayerSpec, geometry_of
from proxconnect.deploy.packed.layers.base import CompactLayer, for_kernels
from proxconnect.deploy.packed.layers.int8 import Int8Conv2d, Int8Embedding, Int8Layer, Int8Linear
from proxconnect.deploy.packed.layers.one_bit import KernelConv, KernelLinear, PackedLayer
from proxconnect.kernels.bits import unpack_bits
from proxconnect.layers import BinaryLayer, attention, converted, embedding, parameter, products
from proxconnect.layers.added_names import form_of


class PackedLinear(KernelLinear, products.LinearProduct, nn.Linear):
    """`nn.Linear` for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "linear"
    binary_type = converted.BinaryLinear


class PackedTransposedLinear(KernelLinear, products.TransposedLinearProduct):
    """The packed form of transformers' `Conv1D`, for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "transposed_linear"
    binary_type = converted.BinaryTransposedLinear


class PackedEmbedding(PackedLayer, products.LookUp, nn.Embedding):
    """`nn.Embedding` for inference, with 1-bit rows, of which only those that are looked up are unpacked.

    Rows of a dimension that 8 does not divide begin within a byte; they are all unpacked at each call.
    """

    kind = "embedding"
    binary_type = embedding.BinaryEmbedding

    def forward(self, input: Tensor) -> Tensor:
        """Look up rows of `weight` by integers (…), as (…, dim) in the dtype of `scale`."""
        rows, dim = self._spec.shape
        if dim % 8:
            return functional.embedding(input, self.weight)
        bits = functional.embedding(input, self.bits.view(rows, dim // 8))
        signs = unpack_bits(bits.flatten(), (*input.shape, dim), self.scale.dtype)
        if self._spec.scale is None:
            return signs
        if self._spec.scale == "tensor":
            return signs * self.scale
        scales = functional.embedding(input, self.scale.view(rows, -1))  # one for each group of a row
        groups: Tensor = signs.unflatten(-1, (scales.shape[-1], -1))
        return (groups * scales.unsqueeze(-1)).flatten(-2)


class _PackedConv(PackedLayer, products.ConvProduct):
    @property
    def padding_value(self) -> int:  # type: ignore[override]  # read-only here
        return self._spec.padding_value


class PackedConv1d(KernelConv, _PackedConv, nn.Conv1d):
    """`nn.Conv1d` for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "conv1d"
    binary_type = converted.BinaryConv1d


class PackedConv2d(KernelConv, _PackedConv, nn.Conv2d):
    """`nn.Conv2d` for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "conv2d"
    binary_type = converted.BinaryConv2d


class PackedConv3d(_PackedConv, nn.Conv3d):
    """`nn.Conv3d` for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "conv3d"
    binary_type = converted.BinaryConv3d


class PackedConvTranspose1d(products.TakesOutputSize, PackedLayer, products.TransposedConvProduct, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "conv_transpose1d"
    binary_type = converted.BinaryConvTranspose1d


class PackedConvTranspose2d(products.TakesOutputSize, PackedLayer, products.TransposedConvProduct, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "conv_transpose2d"
    binary_type = converted.BinaryConvTranspose2d


class PackedConvTranspose3d(products.TakesOutputSize, PackedLayer, products.TransposedConvProduct, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "conv_transpose3d"
    binary_type = converted.BinaryConvTranspose3d


class PackedParameter(PackedLayer):
    """The packed form of a raw parameter, held by its owner, which unpacks it under the parameter's name."""

    kind = "parameter"
    binary_type: ClassVar[type[BinaryLayer]] = parameter.BinaryParameter

    @property
    def mode(self) -> None:
        """None, because a packed weight is the same in all modes, unlike that of a `BinaryParameter`."""

    def float_key(self, name: str) -> str:
        """Return the qualified name of the parameter, given that of this child: without the suffix "_binary"."""
        return name.removesuffix(parameter.SUFFIX)

    def forward(self) -> Tensor:  # type: ignore[override]  # no input
        """Return the unpacked weight: float, with the shape of the parameter."""
        return self.weight


class PackedProjection(KernelLinear, PackedParameter, products.ProjectionProduct):
    """An in-projection of attention for inference, with 1-bit weights; see `PackedLayer`."""

    kind = "projection"
    binary_type = attention.BinaryProjection

    # Unlike other layers it takes several inputs, and the bias of its owner.
    def forward(self, *inputs: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Multiply each of n inputs, such as query, key and value, by its block of rows of the weight.

        They are (…, in), and become (…, out/n). `bias` is that of the attention module for all blocks, (out,), or None.
        """
        blocks = len(inputs)
        rows, scale = self._spec.shape[0] // blocks, self.kernel_scale()
        is_whole = blocks == 1 or (rows % kernels.PANEL == 0 and self.group_size is None)  # no panel spans two blocks
        if not is_whole or not all(self.is_by_kernels(input, bias) for input in inputs):
            return self.project(tuple(map(self.prepare_input, inputs)), *self.weight_factors(), bias)
        assert self.prepacked is not None
        scales = (scale,) * blocks if scale is None or scale.numel() == 1 else scale.chunk(blocks)
        biases = (None,) * blocks if bias is None else for_kernels(bias).chunk(blocks)
        return tuple(
            self.linear(for_kernels(x), block, rows, s, b).to(x.dtype)
            for x, block, s, b in zip(inputs, self.prepacked.chunk(blocks), scales, biases, strict=True)
        )


_FORMS: tuple[type[PackedLayer], ...] = (
    PackedLinear, PackedTransposedLinear, PackedConv1d, PackedConv2d, PackedConv3d, PackedConvTranspose1d,
    PackedConvTranspose2d, PackedConvTranspose3d, PackedEmbedding, PackedParameter, PackedProjection,
)  # fmt: skip

PACKED = {packed.binary_type: packed for packed in _FORMS}
"""The packed form of every binary layer, by the class of that layer."""

INT8: dict[type[nn.Module], type[Int8Layer]] = {
    form.float_type: form for form in (Int8Linear, Int8Conv2d, Int8Embedding)
}
"""The 8-bit form of float layers, by their exact class."""

BY_KIND: dict[str, type[CompactLayer]] = {form.kind: form for form in (*_FORMS, *INT8.values())}
"""All packed forms, by their type in the metadata of a file."""


def spec_of(layer: BinaryLayer) -> LayerSpec:
    """Return the description of the packed form of a binary layer; TypeError if the layer's class has none."""
    cls = type(layer)
    cls = form_of(cls.__mro__[2] if cls.__mro__[1].__name__ == "FSDPModule" else cls)  # FSDP2 makes a subclass
    packed = PACKED.get(cls)
    if packed is None:
        raise TypeError(
            f"{type(layer).__name__} has no packed form, only {', '.join(c.__name__ for c in PACKED)} have: "
            "keep that layer float in binarize()"
        )
    return LayerSpec(
        kind=packed.kind,
        shape=tuple(layer.latent.shape),
        scale="channel" if layer.weight_quantizer.scale == "learned" else layer.weight_quantizer.scale,
        dtype=layer.latent.dtype,
        binary_input=layer.has_binary_input,
        input_shift=layer.has_binary_input and layer.input_shift is not None,
        # Inference needs no derivative.
        accumulator=None if layer.accumulator is None else replace(layer.accumulator, derivative="exact"),
        padding_value=int(layer.padding_value) if isinstance(layer, products.ConvProduct) else 0,
        geometry=geometry_of(layer),
        channel_dims=layer.channel_dims if packed is PackedParameter else None,
        group_size=layer.group_size,
    )
