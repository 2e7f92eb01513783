"""The options of a run for the float network that it learns from."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.functional import cross_entropy

from proxconnect.training.distillation import Distillation
from proxconnect.training.models.names import Network
from proxconnect.training.start import load_float


@dataclass(frozen=True)
class Teacher:
    """The options for a teacher: a float network whose answers and features the run learns from; see `Distillation`.

    The loss is (1 - share)·CE(answer, label) + share·T²·KL(softmax(teacher/T) ‖ softmax(answer/T)) +
    feature_weight·(mean distance of features).

    Args:
        checkpoint: the file of the teacher's values; null for those that the run starts from, or pretrained ones.
        network: the teacher's architecture; null for the run's own.
        share: of the teacher in the loss, from 0 to 1.
        temperature: T.
        features: modules whose outputs are learned, as [stages.2, stages.5], or the teacher's by the run's names.
        feature_weight: of the features in the loss.
    """

    checkpoint: Path | None = None
    network: Network | None = None
    share: float = 0.5
    temperature: float = 1.0
    features: tuple[str, ...] | dict[str, str] = ()
    feature_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not self.temperature > 0 or not self.feature_weight >= 0:
            raise ValueError("share must be from 0 to 1, temperature positive and feature_weight at least 0; got "
                             f"{self.share}, {self.temperature} and {self.feature_weight}")  # fmt: skip

    def build(self, data: Any, own: Network, started_from: Path | None) -> nn.Module:
        """Return the teacher for the data module `data`.

        `own` is the float network of the run, and `started_from` its checkpoint. ValueError if no values are given,
        CheckpointError if their file is absent, binary or does not fit.
        """
        network = self.network or own
        is_other = self.network is not None and network.pretrained
        path = self.checkpoint or (None if is_other else started_from)
        if path is None and not network.pretrained:
            raise ValueError("a teacher needs values: give model.teacher.checkpoint, or a start from a checkpoint or a "
                             "float phase, whose network it then is")  # fmt: skip
        teacher = network.build(data)
        if path is not None:
            load_float(path, teacher)
        return teacher

    def loss(self, student: nn.Module, teacher: nn.Module, smoothing: float) -> Distillation:
        """Return the loss of `student`, whose cross entropy has label `smoothing`; raises as `Distillation`."""
        return Distillation(
            student, teacher, label_weight=1 - self.share, logit_weight=self.share, temperature=self.temperature,
            features=self.features, feature_weight=self.feature_weight,
            label_loss=partial(cross_entropy, label_smoothing=smoothing),
        )  # fmt: skip
