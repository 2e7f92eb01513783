"""Small networks, and checkpoints of their training."""

import torch
from torch import nn

import proxconnect as pc

CODE = """
import torch
import proxconnect as pc
from torch import nn


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 5),
    )


def attending():
    return nn.Sequential(nn.Linear(4, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Linear(16, 4))


class Words(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.words, self.body, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head(self.body(self.words(ids)))


def binary():
    return pc.binarize(net(), "pc", "poly", accumulator=pc.Accumulator(6, "saturate"), padding_value=1)


def other():
    return nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))


def named():
    return nn.ModuleDict({"stem": nn.Linear(4, 4), "head": nn.Linear(4, 4)})


def misfit():
    return net()


net.example = binary.example = torch.randn(2, 3, 8, 8)
misfit.example = torch.randn(2, 4, 8, 8)
"""


def namespace() -> dict:
    """Run that code and return its names."""
    names: dict = {}
    exec(CODE, names)
    return names


def touched(model: nn.Module) -> nn.Module:
    """Give the model random statistics and scales, and put it into `eval()`."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model.eval()


def packed_equals(file, architecture: nn.Module, binary: nn.Module, example) -> bool:
    """Return whether a packed file loads into the architecture and answers as the binary model."""
    loaded = pc.load(file, architecture)
    with torch.no_grad():
        return torch.allclose(loaded(example), binary.eval()(example), atol=1e-5)
