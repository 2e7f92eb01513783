"""The packed form of every binary layer."""

from dataclasses import replace
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.deploy.packed.eight_bits import INT8
from proxconnect.deploy.packed.geometry import geometry_of
from proxconnect.deploy.packed.kernels import KernelConv, KernelLinear, KernelProjection
from proxconnect.deploy.packed.layers import PackedLayer
from proxconnect.deploy.packed.spec import LayerSpec
from proxconnect.layers import BinaryLayer, attention, conv, linear, parameter
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.products import (
    ConvProduct,
    LinearProduct,
    ProjectionProduct,
    TransposedConvProduct,
    TransposedLinearProduct,
)


class PackedForm(PackedLayer):
    """A packed layer that is a float layer of torch's, or stands for one."""

    binary_type: ClassVar[type[ConvertedLayer]]

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """The float layer's class for it and its subclasses."""
        return cls.binary_type.float_class(candidate)

    @classmethod
    def float_name(cls) -> str:
        """The name of the float layer's class."""
        return cls.binary_type.float_name()


class PackedLinear(KernelLinear, PackedForm, LinearProduct, nn.Linear):
    """`nn.Linear` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "linear"
    binary_type = linear.BinaryLinear


class PackedTransposedLinear(KernelLinear, PackedForm, TransposedLinearProduct):
    """transformers' `Conv1D` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "transposed_linear"
    binary_type = linear.BinaryTransposedLinear


class _PackedConv(PackedForm, ConvProduct):
    """What packed convolutions share."""

    @property
    def padding_value(self) -> int:  # type: ignore[override]  # it is read-only here
        """What `padding_mode="zeros"` fills the border with."""
        return self._spec.padding_value


class PackedConv1d(KernelConv, _PackedConv, nn.Conv1d):
    """`nn.Conv1d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv1d"
    binary_type = conv.BinaryConv1d


class PackedConv2d(KernelConv, _PackedConv, nn.Conv2d):
    """`nn.Conv2d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv2d"
    binary_type = conv.BinaryConv2d


class PackedConv3d(_PackedConv, nn.Conv3d):
    """`nn.Conv3d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv3d"
    binary_type = conv.BinaryConv3d


class PackedConvTranspose1d(PackedForm, TransposedConvProduct, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv_transpose1d"
    binary_type = conv.BinaryConvTranspose1d


class PackedConvTranspose2d(PackedForm, TransposedConvProduct, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv_transpose2d"
    binary_type = conv.BinaryConvTranspose2d


class PackedConvTranspose3d(PackedForm, TransposedConvProduct, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv_transpose3d"
    binary_type = conv.BinaryConvTranspose3d


class PackedParameter(PackedLayer):
    """A parameter of another module as bits; that module finds it unpacked under its name."""

    kind = "parameter"
    binary_type: ClassVar[type[BinaryLayer]] = parameter.BinaryParameter

    @classmethod
    def unfilled(cls, spec: LayerSpec) -> Self:
        """One whose `bits` and `scale` are on the meta device."""
        packed = cls._blank()
        nn.Module.__init__(packed)
        packed._specify(spec)
        return packed

    @property
    def mode(self) -> None:
        """It gives one weight only."""

    def float_key(self, name: str) -> str:
        """The name of the parameter in its owner."""
        return name.removesuffix(parameter.SUFFIX)

    def forward(self) -> Tensor:  # type: ignore[override]  # it has no input
        """The weight."""
        return self.weight


class PackedProjection(KernelProjection, PackedParameter, ProjectionProduct):
    """An in-projection of attention with 1-bit weights."""

    kind = "projection"
    binary_type = attention.BinaryProjection

    # Unlike other layers it has several inputs, an output for each, and a bias that is its owner's.
    def forward(self, *inputs: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        """(…, in) → (…, out/n) for each of the n inputs."""
        if self.are_by_kernels(inputs, bias):
            return self.project_by_kernels(inputs, bias)
        return self.project(tuple(map(self.prepare_input, inputs)), *self.weight_factors(), bias)


_FORMS: tuple[type[PackedLayer], ...] = (
    PackedLinear, PackedTransposedLinear, PackedConv1d, PackedConv2d, PackedConv3d, PackedConvTranspose1d,
    PackedConvTranspose2d, PackedConvTranspose3d, PackedParameter, PackedProjection,
)  # fmt: skip

PACKED = {packed.binary_type: packed for packed in _FORMS}
"""The packed form of every binary layer."""

BY_KIND: dict[str, type[CompactLayer]] = {form.kind: form for form in (*_FORMS, *INT8.values())}
"""The packed layers by what the file calls them, 8-bit ones among them."""


def spec_of(layer: BinaryLayer) -> LayerSpec:
    """What the packed form of a binary layer is; TypeError where there is none."""
    packed = PACKED.get(_own_class(layer))
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
        padding_value=int(layer.padding_value) if isinstance(layer, ConvProduct) else 0,
        geometry=geometry_of(layer),
        channel_dims=layer.channel_dims if packed is PackedParameter else None,
    )


def _own_class(layer: nn.Module) -> type[Any]:
    """The class of a layer, without the subclass that FSDP2 makes of it."""
    cls = type(layer)
    return cls.__mro__[2] if cls.__mro__[1].__name__ == "FSDPModule" else cls
