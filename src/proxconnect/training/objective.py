"""What a run minimises."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.training.network import Network


@dataclass(frozen=True)
class Teacher:
    """A float network whose answers a binary one learns from (Hinton 2015, arXiv 1503.02531).

    The loss is (1 - share)·CE(answer, label) + share·T²·KL(softmax(teacher/T) ‖ softmax(answer/T)).

    Args:
        checkpoint: the file of the teacher's values; null for what the run starts from, its float phase or checkpoint.
        network: the teacher's architecture; null for the run's own.
        share: of the teacher in the loss, from 0 to 1.
        temperature: T.
    """

    checkpoint: Path | None = None
    network: Network | None = None
    share: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not self.temperature > 0:
            raise ValueError(
                f"share must be from 0 to 1 and temperature positive; got {self.share} and {self.temperature}"
            )


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean cross entropy of logits (N, classes), for labels, int64 (N,), or shares of classes (N, classes)."""
    return functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def distillation(logits: Tensor, teachers: Tensor, temperature: float = 1.0) -> Tensor:
    """T²·KL(softmax(teachers/T) ‖ softmax(logits/T)), the mean over rows of (N, classes)."""
    log_answers, log_wanted = (functional.log_softmax(answer / temperature, dim=1) for answer in (logits, teachers))
    return temperature**2 * functional.kl_div(log_answers, log_wanted, reduction="batchmean", log_target=True)


class Objective:
    """The loss of one run; `teacher` is None or a network in `eval()` that answers without gradients."""

    def __init__(self, smoothing: float, options: Teacher | None = None, teacher: nn.Module | None = None) -> None:
        self.smoothing, self.options, self.teacher = smoothing, options, teacher

    def __call__(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """The loss of `logits`, the answers to `images`."""
        loss = cross_entropy(logits, targets, self.smoothing)
        if self.options is None or self.teacher is None:
            return loss
        with torch.no_grad():
            wanted = self.teacher(images)
        share = self.options.share
        return (1 - share) * loss + share * distillation(logits, wanted, self.options.temperature)
