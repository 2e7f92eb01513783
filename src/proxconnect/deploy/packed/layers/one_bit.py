"""Layers of 1-bit weights, computed with torch."""

from typing import Any, ClassVar

from torch import Tensor

from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.kernels.bits import pad_is_zero, unpack_bits
from proxconnect.layers import Accumulator
from proxconnect.layers.react import Shift
from proxconnect.pairs.prox import sign


class PackedLayer(CompactLayer):
    """Mixin over a torch layer whose weight is `scale`·±1; `pack` and `load` make such layers.

    `bits` holds the signs as `pack_bits` lays them out: uint8 of shape (⌈n/8⌉,).
    """

    binary_type: ClassVar[type[Any]]
    """The class of the binary layer."""
    held = "bits"
    own_state = ("bits", "scale", "input_shift")

    bits: Tensor
    input_shift: Shift | None
    """The learned shift of a binary input, added before its signs are taken."""

    @property
    def accumulator(self) -> Accumulator | None:  # type: ignore[override]  # read-only here
        """The accumulator of the sums, or None if none can overflow."""
        return self._spec.accumulator

    def forward(self, input: Tensor, *args: Any) -> Tensor:
        """Compute the binary layer's output under `hard()`: bit-exact for binary inputs, else up to rounding."""
        return self.of_shifted(input if self.input_shift is None else self.input_shift(input), *args)

    def of_shifted(self, input: Tensor, *args: Any) -> Tensor:
        """Run the layer on an input that is already shifted."""
        return self.product(self.prepare_input(input), *self.weight_factors(), self.bias, *args)

    def weight_factors(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight and None, or for a binary input the signs and the scale by channel."""
        if not self.scales_sums:
            return self.weight, None
        return self._numbers(), None if self._spec.scale is None else self.scale

    @property
    def scales_sums(self) -> bool:
        """True if the scale multiplies the sums, which are sums of signs alone for a binary input."""
        return self._spec.binary_input

    @property
    def sums_integers(self) -> bool:
        """True if the sums are sums of signs alone."""
        return self._spec.binary_input

    def prepare_input(self, input: Tensor) -> Tensor:
        """Return the factor of the weight: the signs of the input, or the input itself if it is not binary."""
        if not self._spec.binary_input:
            return input
        if not isinstance(input, Tensor) or not input.is_floating_point():
            got = input.dtype if isinstance(input, Tensor) else type(input).__name__
            raise TypeError(f"a packed layer with binary input takes the signs of a float tensor; got {got}")
        return sign(input, 1.0)

    def extra_repr(self) -> str:
        """Describe the float layer, the scale, the input and the accumulator."""
        shown = [super().extra_repr(), f"packed, scale={self._spec.scale}"]
        shown += ["binary input"] * self._spec.binary_input
        shown += [] if self.accumulator is None else [f"accumulator={self.accumulator}"]
        return ", ".join(filter(None, shown))

    def fault(self) -> str:
        """Return a fault of the scale or of the bits after the last weight, or ""."""
        pads = pad_is_zero(self.bits, self._spec.entries)
        return super().fault() if pads else "the bits after the last weight are not 0"

    def _specify(self, spec: LayerSpec) -> None:
        super()._specify(spec)
        self.input_shift = None
        if spec.input_shift:
            channels = self.input_channels(spec.shape)
            self.input_shift = Shift(channels, self.output_axis, device="meta", dtype=spec.dtype)

    def _numbers(self) -> Tensor:
        return unpack_bits(self.bits, self._spec.shape, self.scale.dtype)
