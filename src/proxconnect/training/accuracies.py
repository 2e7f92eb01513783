"""The accuracies of a network in training: of what ships, before re-estimation, and of the soft network."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.classification import MulticlassAccuracy

from proxconnect.deploy.hardening import reestimate_batchnorm
from proxconnect.layers import BinaryLayer
from proxconnect.layers.modes import soft


class Accuracies:
    """The shares of right answers of a network in `eval()`, over all processes.

    - "accuracy": hard, with batch-norm statistics re-estimated for the hard weights: what ships;
    - "accuracy_hard": hard, with the statistics of training, which are those of the soft network;
    - "accuracy_soft": as it trains, at the present μ.

    A float network has only the first.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        self._network = network
        is_binary = any(isinstance(module, BinaryLayer) for module in network.modules())
        self._norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        names = ["accuracy"]
        if is_binary:
            names += ["accuracy_hard", "accuracy_soft"] if self._norms else ["accuracy_soft"]
        self.counts = {name: MulticlassAccuracy(classes, average="micro") for name in names}
        self._hardened: list[Tensor] = []

    def begin(self, batches: Iterable[Tensor]) -> None:
        """Reset the counts; estimate the statistics of the hard network from `batches` of training images."""
        for count in self.counts.values():
            count.to(next(self._network.parameters()).device).reset()
        with self.hardened(batches):
            self._hardened = [statistic.clone() for statistic in self._statistics()]

    @torch.no_grad()
    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        """Count the answers to a batch and return the logits (N, classes) of what ships."""
        network = self._network
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
        """Return the accuracies, from 0 to 1, by name."""
        return {name: count.compute() for name, count in self.counts.items()}

    @contextmanager
    def hardened(self, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
        """Give the network the statistics of what ships, estimated from `batches`, within the context."""
        with self._statistics_kept():
            if "accuracy_hard" in self.counts:
                reestimate_batchnorm(self._network, batches)
            yield self._network

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
