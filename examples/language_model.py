"""A small LLaMA with binary weights learns from Python's own manual, is packed, and writes by `generate`.

`python language_model.py fp 200` trains its float twin, for 200 steps; "packed" then says what rounding alone costs.
"""

import sys
import time
from pydoc_data.topics import topics

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import proxconnect as pc

PAIR = sys.argv[1] if len(sys.argv) > 1 else "bc"
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 200
BATCH, LENGTH, WORDS = 16, 64, 512


def network() -> LlamaForCausalLM:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, eos_token_id=None, pad_token_id=0, **sizes))


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM) -> Tensor:
    return model.eval()(held_out, labels=held_out).loss


torch.manual_seed(0)
tokenizer = ByteLevelBPETokenizer()
tokenizer.train_from_iterator(topics.values(), vocab_size=WORDS, show_progress=False)
text = torch.tensor(tokenizer.encode("\n".join(topics.values())).ids)
windows, held_out = text.unfold(0, LENGTH, LENGTH).tensor_split([-128])

model = pc.binarize(network(), PAIR, example={"input_ids": windows[:1]})  # all but the embedding and the head
print(f"loss a token, held out: {held_out_loss(model):.2f} at first")
optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0)
decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.004, total_steps=STEPS)
sharpening = pc.Sharpening(optimizer, model, steps=STEPS)
model.train()
for _ in range(STEPS):
    batch = windows[torch.randint(len(windows), (BATCH,))]
    loss = model(batch, labels=batch).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    decay.step()
print(f"{held_out_loss(model):.2f} after {STEPS} steps by {PAIR}")

pc.save(pc.pack(model), "llama.safetensors")
packed = pc.load("llama.safetensors", network())
print(f"{held_out_loss(packed):.2f} packed")
prompt = torch.tensor([tokenizer.encode("The class").ids])
start = time.perf_counter()
written = packed.generate(prompt, max_new_tokens=80, do_sample=True, temperature=0.5)
print(f"{80 / (time.perf_counter() - start):.0f} tokens/s:", tokenizer.decode(written[0].tolist()))
