"""A plain PyTorch loop: binary weights on the digits of scikit-learn, packed and saved."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import proxconnect as pc


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 16, 10),
    )  # fmt: skip


torch.manual_seed(0)
digits = load_digits()
images, labels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
model = pc.binarize(network(), "bnn++", example=images[:2])
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
sharpening = pc.Sharpening(optimizer, model, steps=100)
for _ in range(100):
    chosen = torch.randint(1300, (64,))
    loss = cross_entropy(model(images[chosen]), labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

pc.reestimate_batchnorm(model, images[:1300].split(130))
pc.save(pc.pack(model), "digits.safetensors")
packed = pc.load("digits.safetensors", network())
right = packed(images[1300:]).argmax(1) == labels[1300:]
print(f"{100 * right.float().mean():.1f} % of the digits that it was not trained on")
