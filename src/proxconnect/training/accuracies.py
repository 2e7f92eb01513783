"""The accuracies of a network as it ships, as it is hard, and as it trains."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.classification import MulticlassAccuracy

from proxconnect.deploy.hardening import reestimate_batchnorm
from proxconnect.layers import BinaryLayer
from proxconnect.layers.modes import soft


class Accuracies:
    """A meter of the accuracies of a network in `eval()`: call `begin`, then `update` for each batch, then `end`.

    Accuracies are shares of right answers over all processes. A float network has only "accuracy", that of the network
    as it is. The accuracies of a binary network are:

    - "accuracy": of the hard network with batch norm re-estimated for it, as in the packed file;
    - "accuracy_hard": of the hard network with the batch norm of training, if it has any;
    - "accuracy_soft": of the soft network, at the present μ.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        self._network = network
        self._norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        names = ["accuracy"]
        if any(isinstance(module, BinaryLayer) for module in network.modules()):
            names += ["accuracy_hard", "accuracy_soft"] if self._norms else ["accuracy_soft"]
        self.counts = {name: MulticlassAccuracy(classes, average="micro") for name in names}
        self._hardened: list[Tensor] = []

    def begin(self, batches: Iterable[Tensor]) -> None:
        """Reset the counts; for `update`, re-estimate batch norm of a binary network for hard weights.

        The `batches` are images (N, C, H, W). The network itself stays as it is.
        """
        for count in self.counts.values():
            count.to(next(self._network.parameters()).device).reset()
        with self.hardened(batches):
            self._hardened = [statistic.clone() for statistic in self._statistics()]

    @torch.no_grad()
    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        """Count the right answers to images (N, C, H, W), and return the logits (N, classes) that "accuracy" counts.

        Autocast is off, because the packed network computes in float32. The network runs uncompiled.
        """
        network = self._network
        with torch.autocast(images.device.type, enabled=False), self._uncompiled():
            with self._statistics_kept():
                self._write(self._hardened)
                logits: Tensor = network(images)
            self.counts["accuracy"].update(logits, labels)
            for name, count in self.counts.items():
                if name != "accuracy":
                    with soft(network) if name == "accuracy_soft" else nullcontext():
                        count.update(network(images), labels)
        return logits

    def end(self) -> dict[str, Tensor]:
        """Return the accuracies since `begin`, scalars in [0, 1] by name."""
        return {name: count.compute() for name, count in self.counts.items()}

    @contextmanager
    def hardened(self, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
        """Yield the network; within the context, a binary one has its batch norm re-estimated for hard weights."""
        with self._statistics_kept(), self._uncompiled():
            if "accuracy_hard" in self.counts:
                reestimate_batchnorm(self._network, batches)
            yield self._network

    def _uncompiled(self) -> AbstractContextManager[Any]:
        """Return a context without torch.compile, which would take longer for each kind of pass than the pass."""
        is_compiled = self._network._compiled_call_impl is not None
        return torch.compiler.set_stance("force_eager") if is_compiled else nullcontext()

    def _statistics(self) -> list[Tensor]:
        return [buffer for norm in self._norms for buffer in norm.buffers()]

    @contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        before = [statistic.clone() for statistic in self._statistics()]
        try:
            yield
        finally:
            self._write(before)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for statistic, value in zip(self._statistics(), values, strict=True):
            statistic.copy_(value)
