"""BERT learns from the logits and hidden states of a wider one, by its ModelOutput."""

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import kl_div, mse_loss

import proxconnect as pc
from networks import SIZES, bert
from proxconnect.training import Distillation

BATCH = {"input_ids": torch.randint(32, (3, 8)), "attention_mask": torch.tensor([[1] * 5 + [0] * 3] * 3)}
LAYERS = ["bert.encoder.layer.0", "bert.encoder.layer.1"]


def wide_bert() -> nn.Module:
    config = transformers.BertConfig(num_labels=5, **(SIZES | {"hidden_size": 32}))
    return transformers.BertForSequenceClassification(config)


def hidden_states(model: nn.Module) -> tuple[Tensor, ...]:
    states: tuple[Tensor, ...] = model(**BATCH, output_hidden_states=True).hidden_states
    return states


def test_logits_and_hidden_states_are_learned_and_projected() -> None:
    student, teacher = pc.binarize(bert(), "bnn++", keep=()).eval(), wide_bert().eval()
    projections = {name: nn.Linear(24, 32) for name in LAYERS}
    distillation = Distillation(student, teacher, label_weight=0, logit_weight=1, features=LAYERS,
                                projections=projections, distance=mse_loss)  # fmt: skip
    output = student(**BATCH)
    answers, wanted = output.logits.log_softmax(1), teacher(**BATCH).logits.log_softmax(1)
    expected = kl_div(answers, wanted, reduction="batchmean", log_target=True)
    states = zip(projections.values(), hidden_states(student)[1:], hidden_states(teacher)[1:], strict=True)
    expected = expected + torch.stack([mse_loss(project(s), t) for project, s, t in states]).mean()
    torch.testing.assert_close(distillation(student(**BATCH), None, BATCH), expected)


def test_an_encoder_without_head_learns_hidden_states_alone() -> None:
    student, teacher = bert().get_submodule("bert"), bert().get_submodule("bert")
    distillation = Distillation(student, teacher, label_weight=0, logit_weight=0, features=["encoder.layer.1"])
    distillation(student(**BATCH), None, BATCH).backward()
    assert student.get_parameter("embeddings.word_embeddings.weight").grad is not None
