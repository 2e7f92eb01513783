"""The loss of a run."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.training.models.names import Network


@dataclass(frozen=True)
class Teacher:
    """A float network whose answers a binary one learns from (Hinton 2015, arXiv 1503.02531).

    The loss is (1 - share)·CE(answer, label) + share·T²·KL(softmax(teacher/T) ‖ softmax(answer/T)).

    Args:
        checkpoint: the file of the teacher's values; null for the float phase or checkpoint that the run starts from.
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


class Objective:
    """The loss of one run; `teacher` is None or a float network in `eval()`."""

    def __init__(self, smoothing: float, options: Teacher | None = None, teacher: nn.Module | None = None) -> None:
        self.smoothing, self.options, self.teacher = smoothing, options, teacher

    def __call__(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the loss of `logits` (N, classes) for labels, int64 (N,), or shares of classes (N, classes)."""
        loss = functional.cross_entropy(logits, targets, label_smoothing=self.smoothing)
        if self.options is None or self.teacher is None:
            return loss
        share, temperature = self.options.share, self.options.temperature
        with torch.no_grad():
            wanted = self.teacher(images)
        log_answers, log_wanted = (functional.log_softmax(answer / temperature, dim=1) for answer in (logits, wanted))
        divergence = functional.kl_div(log_answers, log_wanted, reduction="batchmean", log_target=True)
        return (1 - share) * loss + share * (temperature**2 * divergence)
