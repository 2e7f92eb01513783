"""What the nodes of a traced graph compute."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.origins import shifted


class Recording(fx.Interpreter):
    """Runs a traced graph with the layers of its module and keeps the values of some nodes, by name.

    Tensors are kept as they were before later nodes wrote into them.
    """

    def __init__(self, module: nn.Module, traced: fx.Graph, names: Collection[str]) -> None:
        super().__init__(module, graph=traced)
        self.values: dict[str, Any] = {}
        self.answer: Any = None
        self._names = names

    def run_node(self, n: Node) -> Any:
        """Called for every node in order."""
        if shifted(n.name) in self._names:
            (input,), _ = self.fetch_args_kwargs_from_env(n)
            self.values[shifted(n.name)] = self.submodules[str(n.target)].input_shift(input)
        value = super().run_node(n)
        self.answer = value  # the last node is the output
        if n.name in self._names:
            self.values[n.name] = value.clone() if isinstance(value, Tensor) else value
        return value
