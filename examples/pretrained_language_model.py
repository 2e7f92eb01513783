"""Take a pretrained LLaMA or Qwen to 1 bit by distillation, on one device or several, and write it for llama.cpp.

`torchrun --nproc-per-node 8 pretrained_language_model.py CHECKPOINT TEXT.txt 2000` makes 2000 steps on 8 GPUs.
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch
from torch import distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import proxconnect as pc
from proxconnect.export import to_gguf
from proxconnect.training import Distillation

CHECKPOINT, TEXT, STEPS = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
BATCH, LENGTH = 4, 128  # sequences for each device, tokens in a sequence
DEVICE = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")


def load(dtype: torch.dtype) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=dtype, use_cache=False)


def binary() -> PreTrainedModel:  # with a scale for 128 inputs of an output, as in GGUF's Q1_0
    return pc.binarize(load(torch.float32), "bnn++", example={"input_ids": torch.tensor([[0]])}, group_size=128)


dist.init_process_group()
tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
windows = torch.tensor(tokenizer(TEXT.read_text()).input_ids).unfold(0, LENGTH, LENGTH)
teacher, student = load(torch.bfloat16).to(DEVICE), binary().to(DEVICE).train()
for layer in student.model.layers:  # keeps its input alone, and runs again in the backward pass
    layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
for part in [*teacher.model.layers, teacher, *student.model.layers, student]:
    fully_shard(part)
distillation = Distillation(student, teacher, label_weight=0, logit_weight=1)
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0)
sharpening = pc.Sharpening(optimizer, student, steps=STEPS)
torch.manual_seed(dist.get_rank())
for step in range(STEPS):
    batch = windows[torch.randint(len(windows), (BATCH,))].to(DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        loss = distillation(student(batch), None, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step(), optimizer.zero_grad()
    print(f"step {step}: {loss:.4f} nats a token from the teacher")
latents = get_model_state_dict(student, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
if dist.get_rank() == 0:
    whole = binary()
    whole.load_state_dict(latents)
    to_gguf(pc.pack(whole.eval()), "model.gguf", tokenizer=tokenizer)
dist.destroy_process_group()
