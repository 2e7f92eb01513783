"""Packed layers: 1 bit a weight plus scales, for inference."""

from typing import Any, ClassVar

from torch import Tensor

from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.deploy.packed.spec import LayerSpec
from proxconnect.kernels.bits import pad_is_zero, unpack_bits
from proxconnect.layers import Accumulator, BinaryLayer
from proxconnect.layers.react import Shift
from proxconnect.pairs.prox import sign


class PackedLayer(CompactLayer):
    """Mixin over a torch layer: its weight is `scale`·±1, the signs held as `bits`; `pack` and `load` make it.

    `bits` is uint8 of shape (⌈n/8⌉,), laid out as `pack_bits` does; `scale` is as of every `CompactLayer`.
    """

    binary_type: ClassVar[type[BinaryLayer]]
    """The binary layer that this one is the packed form of."""
    held = "bits"
    own_state = ("bits", "scale", "input_shift")

    bits: Tensor
    input_shift: Shift | None
    """What is added to a binary input before its signs are taken."""

    @property
    def accumulator(self) -> Accumulator | None:  # type: ignore[override]  # it is read-only here
        """What holds the sums; None for one that never overflows."""
        return self._spec.accumulator

    def forward(self, input: Tensor, *args: Any) -> Tensor:
        """What the binary layer answers under `hard()`: of signs to the bit, of floats up to the order of a sum."""
        return self.of_shifted(input if self.input_shift is None else self.input_shift(input), *args)

    def of_shifted(self, input: Tensor, *args: Any) -> Tensor:
        """What `forward` answers to an input to which what is learned was added before."""
        return self.product(self.prepare_input(input), *self.weight_factors(), self.bias, *args)

    def weight_factors(self) -> tuple[Tensor, Tensor | None]:
        """The weight and None, or where the input is binary the signs and the scale by channel."""
        if not self.scales_sums:
            return self.weight, None
        return self._numbers(), None if self._spec.scale is None else self.scale

    @property
    def scales_sums(self) -> bool:
        """Whether the scale multiplies sums, which are of signs alone where the input is binary."""
        return self._spec.binary_input

    @property
    def sums_integers(self) -> bool:
        """Whether the sums are of signs alone."""
        return self._spec.binary_input

    def prepare_input(self, input: Tensor) -> Tensor:
        """The input as the layer multiplies it: its signs where activations are binary."""
        if not self._spec.binary_input:
            return input
        if not isinstance(input, Tensor) or not input.is_floating_point():
            got = input.dtype if isinstance(input, Tensor) else type(input).__name__
            raise TypeError(f"a packed layer with binary input takes the signs of a float tensor; got {got}")
        return sign(input, 1.0)

    def extra_repr(self) -> str:
        """The float layer's, and what is packed."""
        shown = [super().extra_repr(), f"packed, scale={self._spec.scale}"]
        shown += ["binary input"] * self._spec.binary_input
        shown += [] if self.accumulator is None else [f"accumulator={self.accumulator}"]
        return ", ".join(filter(None, shown))

    def fault(self) -> str:
        """As of every compact layer, and of the bits after the last."""
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
