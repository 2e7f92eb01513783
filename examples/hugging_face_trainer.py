"""Hugging Face's Trainer: a small BERT whose schedule of μ a callback makes; saved and loaded binary."""

from typing import Any

import torch
import transformers

import proxconnect as pc
from proxconnect.huggingface import ProxConnectConfig

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


class Sharpen(transformers.TrainerCallback):
    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, optimizer: Any, **_: Any) -> None:
        pc.Sharpening(optimizer, model, steps=state.max_steps)


transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)).save_pretrained("float")
model = transformers.AutoModelForSequenceClassification.from_pretrained(
    "float", quantization_config=ProxConnectConfig("bnn++", keep=["edges", "classifier"])
)
sentences = [{"input_ids": torch.randint(100, (12,)), "labels": n % 2} for n in range(64)]
settings = transformers.TrainingArguments("trainer", max_steps=8, report_to=[], save_strategy="no", use_cpu=True)
transformers.Trainer(model, settings, train_dataset=sentences, callbacks=[Sharpen()]).train()
model.save_pretrained("binary")
again = transformers.AutoModelForSequenceClassification.from_pretrained("binary")
pc.save(pc.pack(again), "bert.safetensors")
