"""Whole networks against one another: float, packed, and in other engines."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support.example import arguments, tensors_in
from proxconnect.cli.bench import rivals
from proxconnect.cli.bench.rivals import CannotRunError, Task
from proxconnect.cli.bench.timing import Spread, Work, interleaved, quotients
from proxconnect.cli.examples import batch_of, difference, require_runs, run, shapes_of, shown, with_batch

FLOAT, PACKED = "float", "packed"
FILES = {FLOAT: "float.pt", PACKED: "packed.safetensors"}
"""The files that `measure` writes: the float state dict, and the packed file."""

Say = Callable[[str], None]


@dataclass
class Contest:
    """All forms of one network, and other engines, on one input after another."""

    title: str
    model: nn.Module
    binary: nn.Module
    packed: Mapping[str, nn.Module]
    """Packed forms of that or of other binary forms, by name."""
    differences: dict[str, float]
    """The largest |Δ| of each packed form to its binary form; later of each engine to the form that it runs."""
    threads: int
    rounds: int
    folder: Path
    say: Say
    absent: dict[str, str] = field(default_factory=dict)
    """The reasons why engines did not run, by name."""

    def contenders(self, example: Any, batches: tuple[int, ...]) -> list[dict[str, Any]]:
        """Measure all on the example and on batches: `networks` of `bench --json`, without memory and file."""
        own = batch_of(example)
        times = {own: self._times(example)}
        for size in batches:
            if size not in times:
                with torch.inference_mode(False):  # converters take plain tensors
                    batch = with_batch(example, size)
                require_runs(f"{self.title}, in a batch of {size},", self.model, batch)
                times[size] = self._times(batch)
        versions = {rival.name: version(rival.packages[0]) for rival in rivals.RIVALS if rival.name in times[own]}
        found = []
        for name, taken in times[own].items():
            seconds = {size: times[size][name] for size in batches if name in times[size]}
            found.append({
                "name": name,
                "version": versions.get(name, str(torch.__version__)),
                "latency": Spread.of(taken),
                "speedup": Spread.of(quotients(times[own][FLOAT], taken)),
                "seconds": seconds,
                "throughput": {size: size / Spread.of(several).median for size, several in seconds.items()},
                "largest_difference": self.differences.get(name, 0.0),
            })  # fmt: skip
        return found

    def _times(self, example: Any) -> dict[str, tuple[float, ...]]:
        works: dict[str, Work] = {}
        for name, network in {FLOAT: self.model, **self.packed}.items():
            args, kwargs = arguments(network, example)  # not in the work, since it looks at every parameter
            works[name] = partial(network, *args, **kwargs)
        works |= self._rivals(example)
        self.say(f"timing {' and '.join(works)} on {shown(shapes_of(example))}")
        return interleaved(works, self.rounds)

    def _rivals(self, example: Any) -> dict[str, Work]:
        """Prepare the engines that take the network; `absent` gets the reasons of the others."""
        works: dict[str, Work] = {}
        inputs, kwargs = arguments(self.model, example)
        takes_them = not kwargs and all(isinstance(value, Tensor) for value in inputs)
        task = Task(self.model, self.binary, inputs, self.threads, self.folder)
        for rival in rivals.RIVALS:
            if rival.name in self.absent:
                continue
            if rival.absence or not takes_them:
                self.absent[rival.name] = rival.absence or "its inputs are no positional tensors"
                continue
            self.say(f"making {rival.name}'s form")
            try:
                with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
                    warnings.simplefilter("ignore")  # of converters
                    engine = rival.prepare(task)
                if rival.name not in self.differences:
                    expected = run(self.model if rival.runs == "float" else self.binary, task.inputs)
                    got = [torch.as_tensor(answer) for answer in engine()]
                    self.differences[rival.name] = difference(tensors_in(expected), got)
                works[rival.name] = engine
            except CannotRunError as why:
                self.absent[rival.name] = str(why)
            except Exception as error:  # the others are measured whatever a converter raises
                self.absent[rival.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return works
