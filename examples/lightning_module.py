"""Lightning: the schedule of μ is made where the optimizer is."""

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import proxconnect as pc


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
        self.network = pc.binarize(nn.Sequential(*layers), "bnn++")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.01)
        pc.Sharpening(optimizer, self.network, steps=int(self.trainer.estimated_stepping_batches))
        return optimizer

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(self.network(batch[0]), batch[1])


if __name__ == "__main__":
    data = TensorDataset(torch.randn(256, 64), torch.randint(10, (256,)))
    module = Classifier()
    lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False).fit(
        module, DataLoader(data, batch_size=32)
    )
    pc.save(pc.pack(module.network.eval()), "lightning.safetensors")
