"""One row of the study: train MiniLM on sentences, float or binary, and measure it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from studies import checkpoint
from studies.sst2 import networks
from studies.sst2.inputs import fit_inputs
from studies.sst2.sentences import Batch, Sentences
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import proxconnect as pc
from proxconnect.training import Distillation
from proxconnect.training.binarization import Course
from proxconnect.training.schedules import Cosine

PACKED = "network.safetensors"

FITTED = 256
"""The number of sentences that binary inputs are fitted to."""

Progress = tuple[int, int]


def run_row(configuration: dict[str, Any], folder: Path, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Train a configuration, as base.yaml has it, from its last epoch in `folder` if any, and measure it.

    `on_progress` is called after each step with the steps done and their total. Return "accuracy", in [0, 1] (of the
    "hard" network, also as "reestimated", and of the "packed" one on test.tsv, and of the hard one on "dev"), the
    "curve", "steps", "seconds" without those of lost work, "packed_bytes" and "float_bytes".
    """
    data = Path(configuration["data"]["folder"])
    run = Run(configuration, folder, Sentences(data / "train.tsv"), on_progress)
    run.train()
    test, path = Sentences(data / "test.tsv"), folder / PACKED
    network = run.network.eval().requires_grad_(False)
    hard = accuracy(network, test)
    accuracies = {"reestimated": hard, "hard": hard, "dev": accuracy(network, Sentences(data / "dev.tsv"))}
    if configuration["binary"] is not None:
        pc.save(pc.pack(network, remainder="int8", vectors="float16"), path)
        accuracies["packed"] = accuracy(pc.load(path, networks.pretrained()).eval(), test)
    return {
        "accuracy": accuracies,
        "curve": run.curve,
        "steps": run.steps,
        "seconds": run.seconds,
        "packed_bytes": path.stat().st_size if path.exists() else None,
        "float_bytes": sum(p.numel() * p.element_size() for p in networks.pretrained().parameters()),
    }


@torch.inference_mode()
def accuracy(network: nn.Module, sentences: Sentences) -> float:
    """Return the share of the sentences that the network, in `eval()`, classifies as labelled."""
    right = sum(
        int((network(**batch.tokens).logits.argmax(1) == batch.labels).sum()) for batch in sentences.batches(64)
    )
    return right / len(sentences.labels)


def share_lost(student: Tensor, teacher: Tensor) -> Tensor:
    """Return Σ(s - t)²/Σt² over all entries of two features, a scalar."""
    student, teacher = student.float(), teacher.float()
    return (student - teacher).square().sum() / teacher.square().sum()


class Run:
    """The training of a row, epoch by epoch, with a checkpoint after each."""

    def __init__(
        self, configuration: dict[str, Any], folder: Path, sentences: Sentences, on_progress: Callable[[Progress], None]
    ) -> None:
        self.configuration, self.sentences, self.on_progress = configuration, sentences, on_progress
        self.path, self.epochs = folder / checkpoint.NAME, configuration["epochs"]
        self.seed, self.size = configuration["seed_everything"], configuration["data"]["batch_size"]
        self.steps = self.epochs * -(-len(sentences.labels) // self.size)
        torch.manual_seed(self.seed)
        binary, start = configuration["binary"], configuration["start"] and Path(configuration["start"])
        self.network = networks.build(binary, start)
        if binary and binary.get("thresholds"):
            self._fit_inputs(networks.trained(start))
        options = configuration["distillation"]
        self.distillation = self._distil(networks.trained(start), options["states"]) if options else None
        self._prepare()
        content = checkpoint.resume(self.path, self._state())
        self.curve: list[dict[str, float]] = content.get("curve", [])
        self.seconds: float = content.get("seconds", 0.0)

    def _prepare(self) -> None:
        """Make the optimizer, its schedule and that of μ."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        rate = self.configuration["learning_rate"]
        self.optimizer = torch.optim.AdamW(trained, rate, weight_decay=self.configuration["weight_decay"], fused=True)
        self.schedule = Cosine(self.optimizer, self.steps, warmup=0.1)
        for part, course in (self.configuration["sharpening"] or {}).items():
            Course(**course).attach(self.optimizer, self.network, self.steps, part)

    def _fit_inputs(self, before: nn.Module) -> None:
        """Fit binary inputs to those of the network `before`, which has none."""
        batch = self.sentences.shuffled(FITTED, f"{self.seed}")[0]
        present = batch.tokens["attention_mask"].bool()
        fit_inputs(self.network, before, lambda network: network(**batch.tokens), present)

    def _distil(self, teacher: nn.Module, states: float) -> Distillation:
        """Make the loss of the network, whose answers, and hidden states with the weight `states`, `teacher` gives."""
        layers = [f"bert.encoder.layer.{number}" for number in range(self.network.config.num_hidden_layers)]
        return Distillation(
            self.network, teacher, label_weight=0.0, logit_weight=1.0, feature_weight=states, features=layers,
            distance=share_lost,
        )  # fmt: skip

    def train(self) -> None:
        """Train the epochs that are left."""
        for epoch in range(len(self.curve) + 1, self.epochs + 1):
            torch.manual_seed(1000 * self.seed + epoch)  # of dropout
            before, losses = time.perf_counter(), []
            for batch in self.sentences.shuffled(self.size, f"{self.seed} {epoch}"):
                losses.append(self._step(batch))
                self.on_progress(((epoch - 1) * (self.steps // self.epochs) + len(losses), self.steps))
            self.seconds += time.perf_counter() - before
            self.curve.append({"epoch": float(epoch), "loss": float(torch.stack(losses).mean())})
            checkpoint.write(
                self.path, self._state(), binary=self.configuration["binary"], curve=self.curve, seconds=self.seconds
            )
        if self.distillation:
            self.distillation.remove()

    def _step(self, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(**batch.tokens).logits
            distillation = self.distillation
            loss = distillation(logits, None, batch.tokens) if distillation else cross_entropy(logits, batch.labels)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def _state(self) -> dict[str, Any]:
        return {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}
