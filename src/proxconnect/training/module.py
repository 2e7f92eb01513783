"""A LightningModule that trains float and binary networks to classify pictures, and measures their accuracies."""

import math
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer

from proxconnect._support.text import some
from proxconnect.layers import BinaryLayer
from proxconnect.optim.latents import clip_latents
from proxconnect.optim.update_rules import post_training, proxquant, reverse_proxconnect
from proxconnect.training import start as starts
from proxconnect.training.accuracies import Accuracies
from proxconnect.training.binarization import Binarization, Courses
from proxconnect.training.checkpoints import require_same_network
from proxconnect.training.data.loaders import Batch, require_batch
from proxconnect.training.distillation import Distillation
from proxconnect.training.models.names import Network
from proxconnect.training.schedules import Cosine, ScheduleCallable, scheduled
from proxconnect.training.sharding import shard
from proxconnect.training.start import Start
from proxconnect.training.teacher import Teacher

OptimizerCallable = Callable[[Iterable[Any]], Optimizer]
Rule = Literal["pc++", "proxquant", "reverse_proxconnect", "post_training"]
RULES = {"proxquant": proxquant, "reverse_proxconnect": reverse_proxconnect, "post_training": post_training}


class Training(lightning.LightningModule):
    """A LightningModule that trains a float or binary network to classify pictures.

    The network is built for the classes, channels and image size of the data module, or, if MODULE:CALLABLE names it,
    with its options alone. Random initial values depend on the seed and the network alone, so that runs of one seed
    start from the same ones with any pair.

    Args:
        network: the float network.
        binary: which layers become binary, and how; null for a float run.
        start: the initial values.
        sharpening: how μ moves.
        rule: decides where the gradient is taken and where a step starts: pc++, proxquant, reverse_proxconnect or
            post_training.
        clip: clamp latents to [-clip, clip] after each step, as BinaryConnect and BNN do with 1; null for no clamp.
        optimizer: by class path, as torch.optim.AdamW; it is given the parameters.
        schedule: of the learning rate, by class path: a class of proxconnect.training.schedules or one of torch whose
            second argument is the number of optimizer steps. It moves after each of them.
        undecayed: patterns of parameters without weight decay, as "*.bias".
        label_smoothing: of the cross entropy.
        teacher: a float network to learn from; null for none.
        calibration: batches from which batch norm is re-estimated for the hard network, to validate and to pack it.
        compile: run the network by torch.compile.
        channels_last: train in the memory format `torch.channels_last`, in which CPUs convolve faster.
    """

    def __init__(
        self, network: Network = Network(), binary: Binarization | None = None, start: Start = Start(),
        sharpening: Courses = Courses(), rule: Rule = "pc++", clip: float | None = None,
        optimizer: OptimizerCallable = lambda parameters: AdamW(parameters, lr=5e-3, weight_decay=1e-4),
        schedule: ScheduleCallable = Cosine, undecayed: tuple[str, ...] = (), label_smoothing: float = 0.0,
        teacher: Teacher | None = None, calibration: int = 50, compile: bool = False,
        channels_last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if binary is None and rule != "pc++":
            raise ValueError(f"rule {rule} is for binary networks: give model.binary, as --model.binary.weights bc")
        if calibration < 1 or not 0 <= label_smoothing <= 1:
            raise ValueError(f"calibration must be at least 1 batch and label_smoothing from 0 to 1; got {calibration} "
                             f"and {label_smoothing}")  # fmt: skip
        self.float_network, self.binary, self.start = network, binary, start
        self.sharpening, self.rule, self.clip = sharpening, rule, clip
        self.make_optimizer, self.make_schedule, self.undecayed = optimizer, schedule, tuple(undecayed)
        self.label_smoothing, self.teacher, self.calibration = label_smoothing, teacher, calibration
        self.compiles = compile
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.network: nn.Module = nn.Identity()
        self.distillation: Distillation | None = None
        self.curve: list[dict[str, float]] = []
        """One entry an epoch: "epoch" from 1, "loss" of training, and the accuracies after it if it was validated."""
        self._validated: dict[str, float] = {}

    @property
    def data(self) -> Any:
        """The data module that the trainer was given, an `ImageData`; RuntimeError if it was given none."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            raise RuntimeError("Training takes its data from a data module: trainer.fit(module, datamodule=...)")
        return data

    def configure_model(self) -> None:
        """Build `network` at the first call, sharded if the strategy has a mesh; to train, also the `distillation`."""
        if isinstance(self.network, nn.Identity):
            network = in_format(self.memory_format, self.build())
            mesh = getattr(self.trainer.strategy, "device_mesh", None)
            self.network = network if mesh is None else shard(network, mesh)
            self.accuracies = Accuracies(self.network, self.data.classes)
            self._forget_losses()
            if self.compiles:
                self.network.compile()
        is_needed = self.trainer.state.fn == TrainerFn.FITTING  # the teacher's file may be gone later
        if self.teacher is not None and self.distillation is None and is_needed:
            teacher = in_format(
                self.memory_format, self.teacher.build(self.data, self.float_network, self.start.checkpoint)
            )
            self.distillation = self.teacher.loss(self.network, teacher, self.label_smoothing)

    def build(self) -> nn.Module:
        """Return a new network, float or binary, with its starting values: random, pretrained or a checkpoint's.

        `start.checkpoint` is unused if the trainer loads a checkpoint. This seeds torch again with its latest seed.
        """
        torch.manual_seed(torch.initial_seed())
        network = self.float_network.build(self.data)
        path = None if self.trainer.ckpt_path else self.start.checkpoint
        thresholds = {} if path is None else starts.load(path, network)
        if self.binary is not None:
            size = self.data.image_size
            generator = torch.Generator().manual_seed(0)
            self.binary.apply(network, torch.randn(2, self.data.in_channels, size, size, generator=generator))
            state = network.state_dict()
            network.load_state_dict(state | {name: t for name, t in thresholds.items() if name in state})
        return network

    def configure_optimizers(self) -> Any:
        """Return the optimizer, which also moves μ of a binary network, and the schedule of its learning rate.

        ValueError if the number of steps is infinite or 0, or an option does not fit.
        """
        steps = self.trainer.estimated_stepping_batches
        if not 1 <= steps < math.inf:
            raise ValueError("the schedules of the learning rate and of μ need the number of steps: give "
                             "--trainer.max_epochs, or max_steps, and some batches in each epoch")  # fmt: skip
        steps = int(steps)
        optimizer = self.make_optimizer(grouped(self.network, self.undecayed))
        if self.binary is not None:
            if self.rule != "pc++":
                RULES[self.rule](optimizer, self.network)
            if self.clip is not None:
                clip_latents(optimizer, self.network, self.clip)
            self.sharpening.weights.attach(optimizer, self.network, steps, "weights")
            if self.sharpening.activations is not None:
                self.sharpening.activations.attach(optimizer, self.network, steps, "activations")
        schedule = scheduled(self.make_schedule, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a batch, see `require_batch`, as a scalar, and add it to the mean of the epoch."""
        images, targets = self._laid_out(batch)
        loss = self._loss(self.network(images), targets, images)
        self._losses += loss.detach()
        self._steps += 1
        return loss

    def is_logged(self, index: int) -> bool:
        """Return True if the loss of batch `index` of an epoch, counted from 0, is logged.

        It is logged after every `trainer.log_every_n_steps` batches, or never if that is 0.
        """
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
        return every > 0 and (index + 1) % every == 0

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        """Log the loss and, if a schedule moves it, the mean μ every `trainer.log_every_n_steps` batches."""
        if self.is_logged(index):
            self.log_dict({"loss": outputs["loss"], **self._sharpness()})

    def on_train_epoch_end(self) -> None:
        """Add an entry for this epoch to `curve`, log its mean loss and, if it moves, the mean μ; reset the loss."""
        entry = {"epoch": float(self.current_epoch + 1), "loss": self.mean_loss().item()} | self._validated
        self.curve.append(entry)
        self.log_dict({"train/loss": entry["loss"], **self._sharpness()}, sync_dist=True)
        self._forget_losses()

    def on_fit_end(self) -> None:
        """Remove the hooks of the distillation from the network."""
        if self.distillation is not None:
            self.distillation.remove()

    def on_validation_epoch_start(self) -> None:
        """Reset the loss and the accuracies, and re-estimate batch norm if need be; see `Accuracies.begin`."""
        self._evaluated = torch.zeros(2, device=self.device)  # the sum of the losses, and the number of pictures
        self.accuracies.begin(self.calibration_batches())

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add a batch to the mean loss and to the accuracies, which `on_validation_epoch_end` logs; see `Accuracies`.

        The loss is the cross entropy of the network whose "accuracy" is counted, without label smoothing or teacher.
        """
        images, labels = self._laid_out(batch)
        self._evaluated[0] += cross_entropy(self.accuracies.update(images, labels), labels) * len(images)
        self._evaluated[1] += len(images)

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss and the accuracies over all processes as "val/..." or, in a test, as "test/..."."""
        loss, pictures = cast(Tensor, self.trainer.strategy.reduce(self._evaluated, reduce_op="sum"))
        measured = {name: round(share.item(), 7) for name, share in self.accuracies.end().items()}
        stage = "test" if self.trainer.testing else "val"
        logged = {"loss": (loss / pictures).item()} | measured
        self.log_dict({f"{stage}/{name}": value for name, value in logged.items()}, sync_dist=True)
        self._validated = {} if self.trainer.testing else measured

    on_test_epoch_start, on_test_epoch_end = on_validation_epoch_start, on_validation_epoch_end
    test_step = validation_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add "run" to `checkpoint`: the curve, and accuracies, sum of losses and step count of this epoch so far."""
        losses = cast(Tensor, self.trainer.strategy.reduce(self._losses, reduce_op="mean"))
        checkpoint["run"] = {"curve": self.curve, "validated": self._validated, "losses": losses, "steps": self._steps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore "run" from `checkpoint`; CheckpointError if the "state_dict" in it is of another network."""
        if "state_dict" in checkpoint:  # a strategy that shards has loaded it before
            path = None if self._trainer is None else self._trainer.ckpt_path
            require_same_network(checkpoint["state_dict"], self.state_dict(), path)
        if run := checkpoint.get("run"):
            self.curve, self._validated = list(run["curve"]), dict(run["validated"])
            self._losses, self._steps = run["losses"].to(self.device), int(run["steps"])

    def mean_loss(self) -> Tensor:
        """Return the mean loss of the steps of this epoch so far, over all processes; 0 before the first step.

        It is a scalar, and a smaller batch counts as much as the others. Call it in every process, because they
        exchange their losses.
        """
        return cast(Tensor, self.trainer.strategy.reduce(self._losses / max(1, self._steps), reduce_op="mean"))

    def calibration_batches(self) -> Iterable[Tensor]:
        """Return up to `calibration` batches of training images (N, C, H, W), augmented, on the device."""
        return (
            images.to(self.device, memory_format=self.memory_format)
            for images, _ in self.data.calibration_batches(self.calibration)
        )

    def _loss(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        if self.distillation is None:
            return cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        loss: Tensor = self.distillation(logits, targets, images)
        return loss

    def _laid_out(self, batch: Batch) -> Batch:
        """Return a batch with its images in `memory_format`; the errors are those of `require_batch`."""
        images, targets = batch
        require_batch(images, targets)
        return images.to(memory_format=self.memory_format), targets

    def _sharpness(self) -> dict[str, float]:
        """Return the mean μ of the weights that a schedule moves."""
        quantizers = [m.weight_quantizer for m in self.network.modules() if isinstance(m, BinaryLayer)]
        moved = [quantizer.mu for quantizer in quantizers if quantizer.scheduled]
        return {"mu": torch.stack(moved).mean().item()} if moved else {}

    def _forget_losses(self) -> None:
        self._losses, self._steps = torch.zeros((), device=self.device), 0
        self._validated = {}


def in_format(memory_format: torch.memory_format, network: nn.Module) -> nn.Module:
    """Lay out the tensors of `network` that have 4 dimensions in `memory_format`, in place, and return it."""
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's overloads lack it
    return network


def grouped(network: nn.Module, undecayed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return groups of trained parameters for an optimizer; those whose names fit `undecayed` have no weight decay.

    ValueError if one of these patterns, as "*.bias", fits no name.
    """
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for pattern in undecayed:
        if not any(fnmatchcase(name, pattern) for name in trained):
            raise ValueError(f"undecayed: {pattern!r} fits no parameter; there are {some(list(trained))}")
    spared = {name for name in trained if any(fnmatchcase(name, pattern) for pattern in undecayed)}
    decayed = [trained[name] for name in trained if name not in spared]
    groups = {"params": decayed}, {"params": [trained[name] for name in trained if name in spared], "weight_decay": 0.0}
    return [group for group in groups if group["params"]]
