"""Whole networks against one another: float, packed, and float in other engines."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.bench import rivals
from proxconnect.bench.answers import difference, require_runs, run
from proxconnect.bench.examples import batch_of, shapes_of, shown, with_batch
from proxconnect.bench.results import FLOAT, PACKED, Contender, Options, Say
from proxconnect.bench.timing import Spread, Work, interleaved, quotients
from proxconnect.example import arguments, tensors_in


class Contest:
    """The contenders on one input after another."""

    def __init__(
        self, title: str, model: nn.Module, small: nn.Module, options: Options, folder: Path, say: Say
    ) -> None:
        self.title, self.model, self.small, self.options = title, model, small, options
        self.folder, self.say = folder, say
        self.absent: dict[str, str] = {}
        self.versions = dict.fromkeys((FLOAT, PACKED), str(torch.__version__))
        self.differences: dict[str, float] = {}

    def contenders(self, example: Any, packed_difference: float) -> tuple[Contender, ...]:
        """All that there are, measured on the example and on every batch of it."""
        own, sizes = batch_of(example), self.options.batches
        times = {own: self._times(example)}
        for size in sizes:
            if size not in times:
                with torch.inference_mode(False):  # converters take plain tensors
                    batch = with_batch(example, size)
                require_runs(f"{self.title}, in a batch of {size},", self.model, batch)
                times[size] = self._times(batch)
        latencies = {name: Spread.of(values) for name, values in times[own].items()}
        self.differences |= {FLOAT: 0.0, PACKED: packed_difference}
        return tuple(
            Contender(
                name, self.versions[name], latency, Spread.of(quotients(times[own][FLOAT], times[own][name])),
                {size: size / Spread.of(times[size][name]).median for size in sizes if name in times[size]},
                self.differences[name],
            )
            for name, latency in latencies.items()
        )  # fmt: skip

    def _times(self, example: Any) -> dict[str, tuple[float, ...]]:
        args, kwargs = arguments(self.model, example)
        works: dict[str, Work] = {
            FLOAT: lambda: self.model(*args, **kwargs),
            PACKED: lambda: self.small(*args, **kwargs),
            **self._rivals(example),
        }
        self.say(f"timing {' and '.join(works)} on {shown(shapes_of(example))}")
        return interleaved(works, self.options.rounds)

    def _rivals(self, example: Any) -> dict[str, Work]:
        """The engines that are installed and take the network; why not, in `absent`."""
        works: dict[str, Work] = {}
        for rival in rivals.RIVALS:
            if rival.name in self.absent:
                continue
            if rival.absence:
                self.absent[rival.name] = rival.absence
                continue
            self.say(f"making {rival.name}'s form")
            try:
                works[rival.name] = self._rival(rival, example)
            except Exception as error:  # whatever a converter of others raises, the rest is still to be measured
                self.absent[rival.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return works

    def _rival(self, rival: rivals.Rival, example: Any) -> Work:
        inputs, kwargs = arguments(self.model, example)
        if kwargs or not all(isinstance(value, Tensor) for value in inputs):
            raise TypeError("its inputs are no positional tensors")
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # a converter's, of its own ways
            engine = rival.prepare(self.model, inputs, self.options.threads, self.folder)
        self.versions[rival.name] = rival.version
        expected = tensors_in(run(self.model, example))
        self.differences.setdefault(rival.name, difference(expected, rivals.answers(engine)))
        return engine
