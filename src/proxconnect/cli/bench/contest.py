"""Whole networks against one another: float, packed, and in other engines."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support.example import arguments, tensors_in
from proxconnect.cli.bench import rivals
from proxconnect.cli.bench.answers import difference, require_runs, run
from proxconnect.cli.bench.examples import batch_of, shapes_of, shown, with_batch
from proxconnect.cli.bench.results import FLOAT, Contender, Say
from proxconnect.cli.bench.rivals import CannotRunError, Rival, Task
from proxconnect.cli.bench.timing import Spread, Work, interleaved, quotients


@dataclass(frozen=True)
class Networks:
    """One network in its forms."""

    title: str
    model: nn.Module
    """The float one."""
    binary: nn.Module
    """What `binarize` made of it, in `eval()`."""
    packed: Mapping[str, nn.Module]
    """What `pack` made of that or of another binary form, by name."""
    differences: Mapping[str, float]
    """How far the answers of the packed ones are from those of their binary forms."""


class Contest:
    """The contenders on one input after another."""

    def __init__(self, networks: Networks, threads: int, rounds: int, folder: Path, say: Say) -> None:
        self.networks, self.threads, self.rounds = networks, threads, rounds
        self.folder, self.say = folder, say
        self.absent: dict[str, str] = {}
        self.versions = dict.fromkeys((FLOAT, *networks.packed), str(torch.__version__))
        self.differences: dict[str, float] = {FLOAT: 0.0, **networks.differences}

    def contenders(self, example: Any, batches: tuple[int, ...]) -> tuple[Contender, ...]:
        """All that there are, measured on the example and on every batch of it."""
        own = batch_of(example)
        times = {own: self._times(example)}
        for size in batches:
            if size not in times:
                with torch.inference_mode(False):  # converters take plain tensors
                    batch = with_batch(example, size)
                require_runs(f"{self.networks.title}, in a batch of {size},", self.networks.model, batch)
                times[size] = self._times(batch)
        return tuple(
            Contender(
                name, self.versions[name], Spread.of(taken), Spread.of(quotients(times[own][FLOAT], taken)),
                {size: times[size][name] for size in batches if name in times[size]}, self.differences[name],
            )
            for name, taken in times[own].items()
        )  # fmt: skip

    def _times(self, example: Any) -> dict[str, tuple[float, ...]]:
        networks = {FLOAT: self.networks.model, **self.networks.packed}
        works = {name: _work(network, example) for name, network in networks.items()} | self._rivals(example)
        self.say(f"timing {' and '.join(works)} on {shown(shapes_of(example))}")
        return interleaved(works, self.rounds)

    def _rivals(self, example: Any) -> dict[str, Work]:
        """The engines that are installed and take the network; why not, in `absent`."""
        works: dict[str, Work] = {}
        inputs, kwargs = arguments(self.networks.model, example)
        takes_them = not kwargs and all(isinstance(value, Tensor) for value in inputs)
        task = Task(self.networks.model, self.networks.binary, inputs, self.threads, self.folder)
        for rival in rivals.RIVALS:
            if rival.name in self.absent:
                continue
            if rival.absence or not takes_them:
                self.absent[rival.name] = rival.absence or "its inputs are no positional tensors"
                continue
            self.say(f"making {rival.name}'s form")
            try:
                works[rival.name] = self._rival(rival, task)
            except CannotRunError as why:
                self.absent[rival.name] = str(why)
            except Exception as error:  # whatever a converter of others raises, the rest is still to be measured
                self.absent[rival.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return works

    def _rival(self, rival: Rival, task: Task) -> Work:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # a converter's, of its own ways
            engine = rival.prepare(task)
        self.versions[rival.name] = rival.version
        if rival.name not in self.differences:
            reference = self.networks.model if rival.runs == "float" else self.networks.binary
            self.differences[rival.name] = difference(tensors_in(run(reference, task.inputs)), rivals.answers(engine))
        return engine


def _work(network: nn.Module, example: Any) -> Work:
    args, kwargs = arguments(network, example)
    return lambda: network(*args, **kwargs)
