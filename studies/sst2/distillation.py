"""The loss of a binary network: how far its answers and hidden states are from those of a teacher."""

from typing import NamedTuple

import torch
from studies.sst2.sentences import Batch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax


class Answers(NamedTuple):
    """The answers to a batch: `logits` (N, 2), and `states`, the (N, length, 384) after embeddings and each layer."""

    logits: Tensor
    states: tuple[Tensor, ...]


def answers(network: nn.Module, batch: Batch) -> Answers:
    """Run a network of transformers on a batch."""
    found = network(**batch.tokens, output_hidden_states=True)
    return Answers(found.logits, found.hidden_states)


def distance(student: Answers, teacher: Answers, batch: Batch, states: float) -> Tensor:
    """Return KL(teacher's answers ‖ student's) plus `states` times the mean over layers of the share lost, a scalar.

    The share that a layer loses is Σ(a - b)²/Σb² over its states a and the teacher's b, padding left out. BiT (arXiv
    2205.13016) has these two parts, with mean squares in the place of shares.
    """
    log_answers, log_wanted = (log_softmax(one.logits.float(), dim=1) for one in (student, teacher))
    loss = kl_div(log_answers, log_wanted, reduction="batchmean", log_target=True)
    present = batch.tokens["attention_mask"].bool()
    pairs = zip(student.states[1:], teacher.states[1:], strict=True)
    lost = [((a - b)[present].float().square().sum() / b[present].float().square().sum()) for a, b in pairs]
    return loss + states * torch.stack(lost).mean()
