"""The accuracies of a network in training: what ships, the same before re-estimation, and the soft network."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.classification import MulticlassAccuracy

from proxconnect.deploy.hardening import reestimate_batchnorm
from proxconnect.layers import BinaryLayer
from proxconnect.layers.modes import soft

Statistics = list[dict[str, Tensor]]


class Accuracies:
    """Counts right answers of a network in `eval()`, seen in each of the ways that differ for it.

    - "accuracy": hard, with batch-norm statistics estimated anew for the hard weights: what ships;
    - "accuracy_hard": hard, with the statistics of training, which are those of a soft net;
    - "accuracy_soft": as it trains, at the present μ.

    A float network has only the first. Counts are summed over processes.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        self._network = network
        is_binary = any(isinstance(module, BinaryLayer) for module in network.modules())
        self._norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        names = ["accuracy"]
        if is_binary:
            names += ["accuracy_hard", "accuracy_soft"] if self._norms else ["accuracy_soft"]
        self.counts = {name: MulticlassAccuracy(classes, average="micro") for name in names}
        self._hardened: Statistics | None = None

    def begin(self, batches: Iterable[Tensor]) -> None:
        """Forget the counts; estimate the statistics of the hard network from `batches` of training images."""
        for count in self.counts.values():
            count.to(next(self._network.parameters()).device).reset()
        self._hardened = None
        if "accuracy_hard" in self.counts:
            with self._statistics_kept():
                reestimate_batchnorm(self._network, batches)
                self._hardened = self._statistics()

    @torch.no_grad()
    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        """Count the answers to a batch; the logits (N, classes) of what ships."""
        network = self._network
        with self._statistics_kept(self._hardened):
            logits: Tensor = network(images)
        self.counts["accuracy"].update(logits, labels)
        for name, count in self.counts.items():
            if name != "accuracy":
                with soft(network) if name == "accuracy_soft" else nullcontext():
                    count.update(network(images), labels)
        return logits

    def end(self) -> dict[str, Tensor]:
        """The accuracies, from 0 to 1, by name."""
        return {name: count.compute() for name, count in self.counts.items()}

    @contextmanager
    def hardened(self, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
        """The network with the statistics of what ships, for as long as the context lasts."""
        with self._statistics_kept():
            if "accuracy_hard" in self.counts:
                reestimate_batchnorm(self._network, batches)
            yield self._network

    def _statistics(self) -> Statistics:
        return [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in self._norms]

    @contextmanager
    def _statistics_kept(self, instead: Statistics | None = None) -> Iterator[None]:
        """Give the statistics back at the end; have `instead` in their place until then."""
        before = self._statistics()
        try:
            if instead is not None:
                self._write(instead)
            yield
        finally:
            self._write(before)

    @torch.no_grad()
    def _write(self, statistics: Statistics) -> None:
        for norm, buffers in zip(self._norms, statistics, strict=True):
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
