"""Lightning's automatic optimization, which hands a closure to `optimizer.step`."""

import lightning
import pytest
import torch
from torch.nn.functional import cross_entropy

from proxconnect import Sharpening
from stacks.nets import OPTIMIZERS, STEPS, batches, distance, net, scheduled, sharpnesses, state, train

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")

EPOCH = 4
"""Batches in an epoch."""


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()
        self.closures, self.soft, self.hard = 0, [], []

    def configure_optimizers(self):
        optimizer = OPTIMIZERS["AdamW"](self.net.parameters())
        self.sharpening = Sharpening(optimizer, self.net, steps=STEPS)
        return optimizer

    def training_step(self, batch):
        self.closures += 1
        self.soft.append(not torch.equal(self.net[5].weight, self.net[5].binary_weight))
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch):
        self.hard.append(torch.equal(self.net[5].weight, self.net[5].binary_weight))
        self.log("val_loss", cross_entropy(self.net(batch[0]), batch[1]))


class ManualModule(Module):
    """Takes its optimizer from Lightning's wrapper, and gives the schedule that wrapper."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self):
        return OPTIMIZERS["AdamW"](self.net.parameters())

    def on_fit_start(self):
        self.sharpening = Sharpening(self.optimizers(), self.net, steps=STEPS)

    def training_step(self, batch):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch))
        optimizer.step()


@pytest.fixture
def fit(tmp_path):
    """Train a module for some epochs in Lightning, from a checkpoint if wished."""

    def fit(module, epochs, ckpt_path=None, **arguments):
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=epochs, default_root_dir=tmp_path, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **arguments,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(batches(EPOCH), batch_size=None)
        trainer.fit(module, loader, loader, ckpt_path=ckpt_path)
        return trainer

    return fit


def plain_loop(epochs):
    model = net()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    Sharpening(optimizer, model, steps=STEPS)
    train(model, optimizer, batches(EPOCH) * epochs)
    return state(model)


@pytest.mark.parametrize("kind", [Module, ManualModule])
def test_lightning_trains_as_the_plain_loop(kind, fit):
    module = kind()
    trainer = fit(module, 2)
    assert module.closures == module.sharpening.step_count == trainer.global_step == 2 * EPOCH
    assert sharpnesses(module) == pytest.approx([scheduled(2 * EPOCH)] * 2)
    assert distance(state(module.net), plain_loop(2)) == 0


def test_mu_counts_the_steps_of_accumulated_gradients(fit):
    module = Module()
    fit(module, 2, accumulate_grad_batches=2)
    assert module.closures == 2 * EPOCH
    assert sharpnesses(module) == pytest.approx([scheduled(EPOCH)] * 2)


def test_validation_is_hard_and_training_goes_on_soft(fit):
    module = Module()
    fit(module, 2)
    assert module.hard == [True] * len(module.hard)
    assert len(module.hard) > 2 * EPOCH  # the sanity check before training too
    assert module.soft == [True] * 2 * EPOCH


@pytest.mark.parametrize("kind", [Module, ManualModule])
def test_a_resumed_run_equals_the_unbroken_one(kind, fit, tmp_path):
    broken = kind()
    fit(broken, 1).save_checkpoint(tmp_path / "broken.ckpt")
    resumed = kind()
    fit(resumed, 2, ckpt_path=tmp_path / "broken.ckpt")
    assert resumed.closures == EPOCH
    assert resumed.sharpening.step_count == 2 * EPOCH
    assert sharpnesses(resumed) == pytest.approx([scheduled(2 * EPOCH)] * 2)
    assert distance(state(resumed.net), plain_loop(2)) == 0
