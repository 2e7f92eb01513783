"""One row of the study: train a LLaMA, float or binary, on text, and measure it on text held out."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from studies import checkpoint
from studies.language import networks
from studies.language.rounding import FORMATS, rounded
from studies.language.text import batches, windows
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import proxconnect as pc
from proxconnect.training import Distillation
from proxconnect.training.binarization import Course
from proxconnect.training.schedules import Cosine

PACKED = "network.safetensors"

Progress = tuple[int, int]


def run_row(configuration: dict[str, Any], folder: Path, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Train a configuration, as base.yaml has it, from its last epoch in `folder` if any, and measure it.

    `on_progress` is called after each step with the steps done and their total. Return on text held out the
    "accuracy", in [0, 1], with which the most likely next token is right, and the "loss" a token in nats, of the "hard"
    network (its accuracy also as "reestimated"), and of the files of it: "packed", or the `FORMATS` of a float one.
    Return the "bytes" of the files, "packed_bytes", the "curve" of the hard network after each epoch, "weights" in
    matrices, "steps" and "seconds".
    """
    run = Run(configuration, folder, on_progress)
    run.train()
    network = run.network.eval().requires_grad_(False)
    if configuration["binary"] is None:
        files = {name: rounded(network, name) for name in FORMATS}
    else:
        files = {"packed": packed(network, configuration["width"], folder / PACKED)}
    losses, shares = {}, {}
    for name, one in {"hard": network, **{name: one for name, (one, _) in files.items()}}.items():
        losses[name], shares[name] = on_held_out(one, run.held_out)
    return {
        "accuracy": {"reestimated": shares["hard"], **shares},
        "loss": losses,
        "bytes": {name: size for name, (_, size) in files.items()},
        "packed_bytes": files["packed"][1] if "packed" in files else None,
        "curve": run.curve,
        "weights": networks.weights(network),
        "steps": run.steps,
        "seconds": run.seconds,
    }


def packed(network: nn.Module, width: int, path: Path) -> tuple[nn.Module, int]:
    """Write the packed network, its other matrices in 8 bits, to `path`; return what that gives back, and its bytes."""
    pc.save(pc.pack(network, remainder="int8", vectors="float16"), path)
    return pc.load(path, networks.llama(width)).eval(), path.stat().st_size


def next_token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean loss in nats, a scalar, of logits (N, length, words) for tokens int64 (N, length)."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@torch.inference_mode()
def on_held_out(network: nn.Module, text: Tensor) -> tuple[float, float]:
    """Return the loss a token in nats, and the share of next tokens to which the network gives most, in `eval()`."""
    losses, shares = [], []
    for batch in text.split(32):
        logits = network(input_ids=batch).logits
        losses += [next_token_loss(logits, batch)] * len(batch)
        shares += [(logits[:, :-1].argmax(2) == batch[:, 1:]).float().mean()] * len(batch)
    return float(torch.stack(losses).mean()), float(torch.stack(shares).mean())


class Run:
    """The training of a row, epoch by epoch, with a checkpoint after each."""

    def __init__(self, configuration: dict[str, Any], folder: Path, on_progress: Callable[[Progress], None]) -> None:
        self.configuration, self.on_progress = configuration, on_progress
        self.path, self.steps = folder / checkpoint.NAME, configuration["epochs"] * configuration["epoch_steps"]
        data = configuration["data"]
        self.text, held_out = (windows(Path(data["folder"]), name, data["length"]) for name in ("train", "held_out"))
        self.held_out = held_out[data["first"] :: data["each"]]
        torch.manual_seed(configuration["seed_everything"])
        width, teacher = configuration["width"], configuration["teacher"]
        self.network = networks.build(width, configuration["binary"])
        self.distillation = Distillation(
            self.network, networks.trained(width, Path(teacher)), label_loss=next_token_loss
        ) if teacher else None  # fmt: skip
        self._prepare()
        content = checkpoint.resume(self.path, self._state())
        self.curve: list[dict[str, float]] = content.get("curve", [])
        self.seconds: float = content.get("seconds", 0.0)

    def _prepare(self) -> None:
        """Make the optimizer, its schedule and that of μ."""
        parameters, rate = self.network.parameters(), self.configuration["learning_rate"]
        decay = self.configuration["weight_decay"]
        self.optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.95), weight_decay=decay, fused=True)
        self.schedule = Cosine(self.optimizer, self.steps, warmup=0.05)
        for part, course in (self.configuration["sharpening"] or {}).items():
            Course(**course).attach(self.optimizer, self.network, self.steps, part)

    def train(self) -> None:
        """Train the epochs that are left."""
        steps, data = self.configuration["epoch_steps"], self.configuration["data"]
        done, seed = len(self.curve), self.configuration["seed_everything"]
        stream = islice(batches(self.text, data["batch_size"], seed), done * steps, None)
        for epoch in range(done, self.configuration["epochs"]):
            before, losses = time.perf_counter(), []
            for batch in islice(stream, steps):
                losses.append(self._step(batch))
                self.on_progress((epoch * steps + len(losses), self.steps))
            self.seconds += time.perf_counter() - before
            loss, share = on_held_out(self.network.eval(), self.held_out)
            self.network.train()
            self.curve.append(
                {"epoch": epoch + 1.0, "trained": float(torch.stack(losses).mean()), "loss": loss, "accuracy": share}
            )
            checkpoint.write(self.path, self._state(), curve=self.curve, seconds=self.seconds)

    def _step(self, batch: Tensor) -> Tensor:
        logits = self.network(input_ids=batch).logits
        distillation = self.distillation
        loss = distillation(logits, batch, {"input_ids": batch}) if distillation else next_token_loss(logits, batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def _state(self) -> dict[str, Any]:
        return {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}
