"""GELUs that overwrite the output of a product, so that caches hold one array less."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.fx import Node

from proxconnect.deploy.fusion.binary_products import BinaryProduct
from proxconnect.deploy.fusion.operation import Match, Operation
from proxconnect.deploy.fusion.rewriting import Rewriting


class OverwritingGelu(Operation):
    """A GELU of floats that nobody else reads."""

    has_channels = False

    def __init__(self, gelu: nn.GELU) -> None:
        super().__init__(partial(torch.ops.aten.gelu_.default, approximate=gelu.approximate), (), are_images=False)
        self.gelu = gelu

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Match a GELU that alone reads the floats of a product."""
        gelu, value = work.module_of(node), node.args[0] if node.args else None
        if type(gelu) is not nn.GELU or not isinstance(value, Node) or len(value.users) > 1:
            return None
        return Match(cls(gelu), [node], (value,), [gelu]) if isinstance(value.target, BinaryProduct) else None

    def by_layers(self, input: Tensor, *others: Tensor) -> Tensor:
        """Compute the same with the module itself."""
        output: Tensor = self.gelu(input)
        return output

    def counts(self) -> dict[str, int]:
        """Count nothing: it is a layer by torch."""
        return {}
