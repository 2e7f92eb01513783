"""Training checkpoints of any training loop: their tensors, and the tensors of a network among them."""

from proxconnect.deploy.checkpoints.matching import Matched, fill, match
from proxconnect.deploy.checkpoints.reading import Checkpoint, CheckpointError, is_packed, read

__all__ = ["Checkpoint", "CheckpointError", "Matched", "fill", "is_packed", "match", "read"]
