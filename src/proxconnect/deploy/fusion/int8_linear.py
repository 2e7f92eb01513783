"""The fused operation of 8-bit linear layers and their epilogue steps."""

from collections.abc import Sequence

from torch import Tensor
from torch.fx import Node

from proxconnect.deploy.fusion.operation import Match, Operation, has_kernels
from proxconnect.deploy.fusion.rewriting import Rewriting
from proxconnect.deploy.fusion.steps import EpilogueStep, for_kernels
from proxconnect.deploy.packed.layers.int8 import Int8Linear
from proxconnect.kernels.epilogue import Step
from proxconnect.kernels.fused_linear import FusedInt8Linear

NAME = "layers of 8 bits"
"""The name under which reports count 8-bit linear layers and convolutions."""


class Int8Rows(Operation):
    """An 8-bit linear layer and its epilogue steps."""

    name = NAME
    sums_integers = True

    def __init__(self, layer: Int8Linear, steps: Sequence[EpilogueStep], then: tuple[Step, ...]) -> None:
        assert layer.prepacked is not None
        weight = layer.prepacked, layer.in_features, layer.out_features
        kernel = FusedInt8Linear(*weight, layer.kernel_scale(), layer.kernel_bias(), then)
        super().__init__(kernel, steps, are_images=False)
        self.layer = layer

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Match an 8-bit linear layer and the steps after it."""
        layer = work.module_of(node)
        if not isinstance(layer, Int8Linear) or not has_kernels(layer):
            return None
        steps, then = for_kernels(work.chain(node, layer.out_features, are_images=False), layer.out_features)
        return Match(cls(layer, steps, then), [node, *(step.node for step in steps)], node.args, [layer])

    def sums(self, input: Tensor) -> Tensor:
        """Compute the layer's output before the steps, with the layer itself."""
        sums: Tensor = self.layer(input)
        return sums
