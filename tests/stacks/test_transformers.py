"""Hugging Face's Trainer on a tiny BERT, with an optimizer of ours or its own, whole and resumed."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from proxconnect import Sharpening, binarize
from stacks.nets import STEPS, distance, scheduled, sharpnesses, state

pytestmark = pytest.mark.usefixtures("fresh_accelerate")

BATCH = 4
BINARY_LAYERS = 7
CONFIG = BertConfig(
    vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
    max_position_embeddings=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip


class Sentences(torch.utils.data.IterableDataset):
    """As many as one run needs, always in the same order."""

    def __init__(self):
        random = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(32, (STEPS * BATCH, 6), generator=random)
        self.labels = torch.randint(2, (STEPS * BATCH,), generator=random)

    def __iter__(self):
        for tokens, label in zip(self.tokens, self.labels, strict=True):
            yield {"input_ids": tokens, "labels": label}


class Schedule(TrainerCallback):
    """Attaches Sharpening to the optimizer that the Trainer made itself, which Accelerate has wrapped by then."""

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        self.sharpening = Sharpening(optimizer, model, steps=state.max_steps)


def bert():
    torch.manual_seed(0)
    return binarize(BertForSequenceClassification(CONFIG), keep="classifier")


def make_optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def optimizer_and_rates(model):
    optimizer = make_optimizer(model)
    return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, STEPS)


def trained(folder, resume=None, callback=None, **arguments):
    """A net after STEPS steps, and its schedule: on our optimizer, or on the Trainer's own by a callback."""
    model = bert()
    if callback is None:
        optimizer, rates = optimizer_and_rates(model)
        sharpening = Sharpening(optimizer, model, steps=STEPS)
        ours = {"optimizers": (optimizer, rates)}
    else:
        ours = {"callbacks": [callback]}
    settings = TrainingArguments(
        folder, max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=0.01, use_cpu=True, report_to=[],
        save_steps=STEPS // 2, logging_strategy="no", disable_tqdm=True, **arguments,
    )  # fmt: skip
    Trainer(model, settings, train_dataset=Sentences(), **ours).train(resume_from_checkpoint=resume)
    return model, sharpening if callback is None else callback.sharpening


def test_our_optimizer_trains_as_in_the_plain_loop(tmp_path):
    model, sharpening = trained(tmp_path, max_grad_norm=0.0)
    plain, data = bert(), Sentences()
    optimizer, rates = optimizer_and_rates(plain)
    Sharpening(optimizer, plain, steps=STEPS)
    for tokens, labels in zip(data.tokens.split(BATCH), data.labels.split(BATCH), strict=True):
        optimizer.zero_grad()
        cross_entropy(plain(input_ids=tokens).logits, labels).backward()
        optimizer.step()
        rates.step()
    assert sharpening.step_count == STEPS
    assert sharpnesses(model) == pytest.approx([scheduled(STEPS)] * BINARY_LAYERS)
    assert distance(state(model), state(plain)) < 1e-6


@pytest.mark.parametrize("make_callback", [lambda: None, Schedule], ids=["our optimizer", "the Trainer's optimizer"])
def test_a_run_resumed_in_the_middle_equals_the_unbroken_one(make_callback, tmp_path):
    unbroken, _ = trained(tmp_path, callback=make_callback())
    resumed, sharpening = trained(tmp_path, resume=str(tmp_path / f"checkpoint-{STEPS // 2}"), callback=make_callback())
    assert sharpening.step_count == STEPS
    assert sharpnesses(resumed) == sharpnesses(unbroken)
    assert distance(state(resumed), state(unbroken)) < 1e-6


def test_the_checkpoint_holds_mu_and_the_count_where_they_were(tmp_path):
    trained(tmp_path, callback=Schedule())
    checkpoint, model = tmp_path / f"checkpoint-{STEPS // 2}", bert()
    assert torch.load(checkpoint / "optimizer.pt")["param_groups"][0]["sharpening_weights"] == STEPS // 2
    model.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=True)
    assert sharpnesses(model) == pytest.approx([scheduled(STEPS // 2)] * BINARY_LAYERS)


def test_accumulated_gradients_count_once(tmp_path):
    _, sharpening = trained(tmp_path, callback=Schedule(), gradient_accumulation_steps=2)
    assert sharpening.step_count == STEPS
