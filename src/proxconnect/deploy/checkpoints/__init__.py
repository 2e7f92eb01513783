"""Training checkpoints, whoever wrote them: their tensors, and which of them are those of a network."""

from proxconnect.deploy.checkpoints.matching import Matched, fill, match
from proxconnect.deploy.checkpoints.reading import Checkpoint, CheckpointError, is_packed, read

__all__ = ["Checkpoint", "CheckpointError", "Matched", "fill", "is_packed", "match", "read"]
