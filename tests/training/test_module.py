"""`Training` against the loop of a few lines that it stands for, bit for bit."""

import copy
from functools import partial

import lightning
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

import proxconnect as pc
from proxconnect.training import Distillation
from proxconnect.training.checkpoints import LAST
from proxconnect.training.data.pictures import Splits, TensorPictures
from proxconnect.training.models.residual import ResidualNet, small_cnn
from proxconnect.training.runs import PACKED
from proxconnect.training.schedules import Cosine
from training.pictures import GeneratedPictures
from training.small_runs import finish

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec")

EPOCHS = 2


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=5e-3, weight_decay=1e-4)


class Loop:
    """Two epochs in plain PyTorch; `network`, and its loss and the accuracy of what ships after each epoch."""

    def __init__(self, *, pair="bnn++", make=adamw, attach=None, loss=cross_entropy, accumulate=1, norm=None, **course):
        data = GeneratedPictures(batch_size=32)
        data.setup()
        loader = data.train_dataloader()
        steps = EPOCHS * len(loader) // accumulate
        torch.manual_seed(0)
        self.network = pc.binarize(small_cnn(1, 4), pair, example=torch.randn(2, 1, 8, 8))
        optimizer = make(self.network.parameters())
        if attach is not None:
            attach(optimizer, self.network)
        pc.Sharpening(optimizer, self.network, steps=steps, **course)
        schedule = Cosine(optimizer, steps)
        self.curve = []
        for _ in range(EPOCHS):
            losses = torch.zeros(())
            for number, (images, labels) in enumerate(loader):
                value = loss(self.network(images), labels)
                losses += value.detach()
                (value / accumulate).backward()
                if (number + 1) % accumulate == 0:
                    if norm is not None:
                        nn.utils.clip_grad_norm_(self.network.parameters(), norm)
                    optimizer.step()
                    optimizer.zero_grad()
                    schedule.step()
            self.curve.append((losses.item() / len(loader), accuracy(self.network, data)))


def accuracy(network, data):
    shipped = copy.deepcopy(network)
    pc.reestimate_batchnorm(shipped, [images for images, _ in data.calibration_batches(50)])
    [(images, labels)] = data.val_dataloader()
    return (shipped.eval()(images).argmax(1) == labels).double().mean().item()


def assert_equal_to(loop, run):
    expected, state = loop.network.state_dict(), run.model.network.state_dict()
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []
    assert [(entry["loss"], entry["accuracy"]) for entry in run.model.curve] == [
        pytest.approx(entry) for entry in loop.curve
    ]


@pytest.mark.parametrize(
    ("parts", "loop"),
    [
        ({}, {}),
        ({"trainer": {"accumulate_grad_batches": 3}}, {"accumulate": 3}),
        ({"trainer": {"gradient_clip_val": 0.5}}, {"norm": 0.5}),
        ({"model": {"label_smoothing": 0.1}}, {"loss": partial(cross_entropy, label_smoothing=0.1)}),
        ({"model": {"clip": 0.05}}, {"attach": partial(pc.clip_latents, bound=0.05)}),
        ({"model": {"rule": "proxquant", "binary": {"weights": "binaryrelax"}}},
         {"pair": "binaryrelax", "attach": pc.proxquant}),
        ({"model": {"rule": "reverse_proxconnect"}}, {"attach": pc.reverse_proxconnect}),
        ({"model": {"rule": "post_training"}}, {"attach": pc.post_training}),
        ({"model": {"sharpening": {"weights": {"start": 2.0, "end": 8.0, "shape": "linear", "hold": 0.34}}}},
         {"start": 2.0, "end": 8.0, "shape": "linear", "hold": 2}),
    ],
    ids=["defaults", "accumulated", "norm clipped", "smoothed", "latents clipped", "proxquant", "reverse", "ptq", "mu"],
)  # fmt: skip
def test_a_run_is_the_plain_loop_to_the_last_bit(parts, loop, tmp_path):
    assert_equal_to(Loop(**loop), finish(tmp_path, **parts))


def test_bop_by_its_class_path_is_bop(tmp_path):
    optimizer = {"class_path": "proxconnect.Bop", "init_args": {"threshold": 1e-5, "gamma": 1e-2}}
    model = {"binary": {"weights": "bc"}, "optimizer": optimizer}
    make = partial(pc.Bop, threshold=1e-5, gamma=1e-2)
    assert_equal_to(Loop(pair="bc", make=make), finish(tmp_path, model=model))


def test_a_teacher_has_its_share_of_the_loss(tmp_path):
    teacher = {"share": 0.3, "temperature": 2.0}
    run = finish(tmp_path, model={"start": {"float_epochs": 1}, "teacher": teacher, "label_smoothing": 0.1})
    trained = torch.load(tmp_path / "float" / LAST, weights_only=True)["state_dict"]
    network = small_cnn(1, 4)
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in trained.items()})
    images, labels, answers = torch.randn(24, 1, 8, 8), torch.randint(4, (24,)), torch.randn(24, 4)
    wanted = network.eval()(images)
    divergence = kl_div(log_softmax(answers / 2, 1), softmax(wanted / 2, 1), reduction="batchmean")
    expected = 0.7 * cross_entropy(answers, labels, label_smoothing=0.1) + 0.3 * 4 * divergence
    torch.testing.assert_close(run.model.distillation(answers, labels, images), expected)


class Learning:
    """The loss of the plain loop by a Distillation, as a function of logits and labels."""

    def __init__(self, teacher):
        self.teacher = teacher

    def attach(self, optimizer, network):
        network.register_forward_pre_hook(self.see)
        self.distillation = Distillation(network, self.teacher, label_weight=0.7, logit_weight=0.3,
                                         features=["stages.1", "stages.3"], feature_weight=0.2)  # fmt: skip

    def see(self, network, args):
        self.images = args[0]

    def __call__(self, logits, labels):
        return self.distillation(logits, labels, self.images)


def test_a_run_learns_features_as_the_plain_loop_does(tmp_path):
    checkpoint = finish(tmp_path / "float", model={"binary": None}, trainer={"max_epochs": 1}).folder / LAST
    teacher = {"checkpoint": str(checkpoint), "share": 0.3, "features": ["stages.1", "stages.3"], "feature_weight": 0.2}
    run = finish(tmp_path / "binary", model={"teacher": teacher})
    loss = Learning(run.model.distillation.teacher)
    assert_equal_to(Loop(attach=loss.attach, loss=loss), run)
    assert not any(module._forward_hooks for module in run.model.network.modules())


class InColour(GeneratedPictures):
    in_channels = 3

    def read(self):
        splits = super().read()
        in_colour = (TensorPictures(p.images.repeat(1, 3, 1, 1), p.labels) for p in (splits.train, splits.test))
        return Splits(*in_colour, self.classes)


def is_channels_last(tensor):
    return tensor.dim() != 4 or tensor.is_contiguous(memory_format=torch.channels_last)


def test_in_channels_last_a_run_trains_and_packs_as_in_the_other_memory_format(tmp_path):
    seen = []

    def see(module, inputs):
        if isinstance(module, ResidualNet) and len(inputs[0]) > 2:  # no example of `binarize`
            seen.append(is_channels_last(inputs[0]))

    options = {"model": {"network": {"name": "small_cnn"}, "binary": {"weights": "bnn++"}, "teacher": {},
                         "start": {"float_epochs": 1}, "channels_last": True},
               "data": {"class_path": "training.test_module.InColour", "init_args": {"batch_size": 32}},
               "trainer": {"max_epochs": 1, "accelerator": "cpu"}}  # fmt: skip
    handle = nn.modules.module.register_module_forward_pre_hook(see)
    run = finish(tmp_path / "last", plain=options)
    handle.remove()
    options["model"]["channels_last"] = False
    other = finish(tmp_path / "other", plain=options)
    assert seen
    assert all(seen)  # in both phases, the teacher, calibration and validation
    network, [optimizer] = run.model.network, run.trainer.optimizers
    averages = [average for state in optimizer.state.values() for average in state.values()]
    assert all(map(is_channels_last, [*network.state_dict().values(), *averages]))
    assert not is_channels_last(other.model.network.stages[0].conv.latent)
    torch.testing.assert_close(network.state_dict(), other.model.network.state_dict(), rtol=1e-2, atol=1e-4)
    assert run.model.curve[0]["loss"] == pytest.approx(other.model.curve[0]["loss"], 1e-4)
    [(images, _)] = run.datamodule.val_dataloader()
    with run.model.accuracies.hardened(run.model.calibration_batches()):
        expected = network.eval()(images)
    torch.testing.assert_close(pc.load(tmp_path / "last" / PACKED, small_cnn(3, 4))(images), expected)


@pytest.mark.parametrize("trainer", [{"max_epochs": -1}, {"limit_train_batches": 0}])
def test_a_run_of_no_known_length_is_refused(trainer, tmp_path):
    with pytest.raises(ValueError, match=r"need the number of steps: give --trainer\.max_epochs"):
        finish(tmp_path, trainer=trainer)


def test_mu_is_at_its_end_for_the_steps_of_its_hold_where_the_last_gradients_of_an_epoch_are_fewer(tmp_path):
    """Three batches by two are two steps an epoch, in the second of which one batch is alone."""
    seen = []

    class Watching(lightning.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            seen.append(module.network.stages[0].conv.weight_quantizer.mu.item())

    course = {"start": 1.0, "end": 16.0, "hold": 0.5}
    parts = {"model": {"sharpening": {"weights": course}}, "trainer": {"accumulate_grad_batches": 2}}
    finish(tmp_path, [Watching()], **parts)
    assert seen == pytest.approx([1.0, 4.0, 16.0, 16.0])


def test_nothing_is_logged_within_an_epoch_where_the_trainer_says_never(tmp_path):
    finish(tmp_path, trainer={"log_every_n_steps": 0})
