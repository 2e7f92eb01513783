"""Accelerate: the schedule of μ is on the optimizer before it is prepared, and counts real steps alone."""

import accelerate
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import proxconnect as pc

accelerator = accelerate.Accelerator(gradient_accumulation_steps=2)
data = DataLoader(TensorDataset(torch.randn(256, 64), torch.randint(10, (256,))), batch_size=16)
model = pc.binarize(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
sharpening = pc.Sharpening(optimizer, model, steps=len(data) // 2)
model, optimizer, data = accelerator.prepare(model, optimizer, data)
for images, labels in data:
    with accelerator.accumulate(model):
        accelerator.backward(cross_entropy(model(images), labels))
        optimizer.step()
        optimizer.zero_grad()
accelerator.save_state("accelerate")  # latents, the optimizer and with it the place of μ
pc.save(pc.pack(accelerator.unwrap_model(model).eval()), "accelerate.safetensors")
