"""A float network beside its packed form, and beside other engines that are installed."""

import copy
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

import proxconnect
from proxconnect._support.example import arguments, tensors_in
from proxconnect.cli.bench import generation, rivals
from proxconnect.cli.bench.profile import binary_share, profile, time_layers
from proxconnect.cli.bench.rivals import Task, llama_cpp
from proxconnect.cli.bench.timing import Spread, Work, interleaved, quotients, threads
from proxconnect.cli.binarization import ACTIVATIONS, make_binary
from proxconnect.cli.networks import difference, require_runs, run, shapes_of, shown, with_batch
from proxconnect.conversion import Plan
from proxconnect.conversion.convert import ONE_SIGN
from proxconnect.inspection.machine import Machine
from proxconnect.layers import Accumulator

FLOAT, PACKED = "float", "packed"
ROUNDED = "packed, inputs int8"
"""The packed form of a language model that rounds inputs to 8 bits, as llama.cpp does, if `PACKED` does not."""

FILES = {FLOAT: "float.pt", PACKED: "packed.safetensors"}
"""The files that `measure` writes: the float state dict, and the packed file."""

Say = Callable[[str], None]

Mode = Literal["BW", "BWA", "BWAA"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""Binary weights; binary activations too; and a narrow accumulator for the sums of their products."""


@dataclass(frozen=True)
class Options:
    """The options of `proxconnect bench`: what becomes binary, how it is packed, and what is measured.

    `weights` is the name of the pair of the weights, `mode` one of `MODES`, and `keep` the layers that stay float, as
    `pc.binarize` takes them. `threads` is the number of threads of torch and of the other engines. Each time is taken
    in `rounds` rounds.
    """

    weights: str = "bnn++"
    mode: Mode = "BW"
    keep: tuple[str, ...] | None = ("edges",)
    group_size: int | None = None
    """The number of inputs of a linear layer that share a scale, as `pc.binarize` takes it."""
    embeddings: bool = False
    """Whether embeddings become binary, too."""
    packing: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `pc.pack`."""
    threads: int = field(default_factory=torch.get_num_threads)
    rounds: int = 11
    batches: tuple[int, ...] = (1, 8)
    """The sizes of batches for which the throughput is measured."""
    prompt: int = 128
    """The length of the prompt of a language model, in tokens."""
    tokens: int = 32
    """The tokens that it then writes, 2 or more."""


def measure(title: str, model: nn.Module, example: Any, options: Options, folder: Path, say: Say) -> dict[str, Any]:
    """Binarize and pack a copy of the float `model`, time both and the other engines, and write `FILES` into `folder`.

    Args:
        title: the name of the network in the results and in errors.
        model: the float network. It is switched to `eval()`, and its parameters no longer require gradients.
        example: its input: a tensor, a tuple of positional arguments or a mapping of keyword arguments.
        options: what becomes binary and what is measured.
        folder: an existing folder, also for the files of other engines.
        say: called with lines of text that say what is done next.

    Returns:
        The keys of `proxconnect bench --json` (docs/command-line.md), all values of `peak_memory` None.

    Raises:
        ValueError: if the model cannot be binarized or packed, fails on the example or a batch, or is a language model
            with fewer positions than `options.prompt` and `options.tokens` need.
        TypeError: if it has a type of binary layer that cannot be packed.
    """
    generation.require_room(title, model, options.prompt, options.tokens)
    say("binarizing and packing")
    model.eval().requires_grad_(False)
    require_runs(title, model, example)
    binary = make_binary(
        copy.deepcopy(model), options.weights, None if options.mode == "BW" else ACTIVATIONS, keep=options.keep,
        accumulator=Accumulator(bits=8, overflow="wrap") if options.mode == "BWAA" else None, example=example,
        group_size=options.group_size, embeddings=options.embeddings,
    ).eval()  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="batch norms .* have statistics")  # accuracy is not measured
        small = proxconnect.pack(binary, **options.packing)
    torch.save(model.state_dict(), folder / FILES[FLOAT])
    proxconnect.save(small, folder / FILES[PACKED])
    plan = cast(Plan, binary.binarization)
    described = {
        "model": title, "mode": options.mode, "weights": options.weights, **options.packing,
        "keep": options.keep or (), "group_size": options.group_size, "embeddings": options.embeddings,
        "input_shapes": shapes_of(example), "rounds": options.rounds,
        "binary_layers": len(plan.binary), "weight_layers": len(plan.rows),
        "one_signed": [row.name for row in plan.rows if row.reason == ONE_SIGN],
    }  # fmt: skip
    contest = Contest(title, model, binary, {PACKED: small}, {}, options.threads, options.rounds, folder, say)
    with threads(options.threads), torch.inference_mode():
        return described | _measured(contest, example, options)


def _measured(contest: "Contest", example: Any, options: Options) -> dict[str, Any]:
    model, small, rounds = contest.model, contest.packed[PACKED], options.rounds
    hard = tensors_in(run(contest.binary, example))
    contest.differences[PACKED] = difference(hard, tensors_in(run(small, example)))
    contest.say("timing layer by layer")
    layers = time_layers(model, small, example, rounds)
    parts = profile(small, example, rounds)
    contenders = contest.contenders(example, options.batches)
    writing = _written(contest, options) if generation.can_write(model) else None
    files = contest.files()
    return {
        "machine": Machine.here(),
        "networks": [{**one, "peak_memory": None, "file": files.get(one["name"])} for one in contenders],
        "float_bytes": proxconnect.summary(small).float_bytes,
        "largest_answer": max((float(t.abs().max()) for t in hard if t.numel()), default=0.0),
        "binary_share_of_time": binary_share(parts),
        "profile": parts,
        "layers": layers,
        "generation": writing,
        "absent": contest.absent,
    }


def _written(contest: "Contest", options: Options) -> dict[str, Any]:
    """Time how fast a language model writes: float, packed, packed with inputs in 8 bits, and in llama.cpp."""
    forms = {FLOAT: contest.model, **contest.packed}
    if options.mode == "BW" and options.packing.get("inputs") != "int8":
        with torch.inference_mode(False):
            forms[ROUNDED] = proxconnect.pack(contest.binary, **{**options.packing, "inputs": "int8"})
    prompt, name = generation.prompt_for(contest.model, options.prompt), llama_cpp.NAME
    with ExitStack() as stack:
        engine = None
        try:
            contest.say(f"starting {name}")
            engine = stack.enter_context(llama_cpp.running(
                contest.packed[PACKED], prompt, options.tokens, options.packing.get("remainder", "float"),
                options.threads, contest.folder,
            ))  # fmt: skip
        except Exception as error:  # the others are measured whatever it raises
            contest.absent[name] = rivals.reason(error)
        contest.say(f"writing {options.tokens} tokens, again and again")
        engines = {} if engine is None else {name: engine.write}
        found = generation.time_writing(forms, prompt, options.tokens, options.rounds, engines)
        return {**found, "llama_cpp": None if engine is None else engine.described()}


@dataclass
class Contest:
    """The timing of one network in all its forms: float, packed, and in other engines.

    Call `contenders` for the results, under `torch.inference_mode` and with torch set to `threads` threads, as the
    other engines are. `absent` then says which engines did not run on every input, and why. `model` is the float
    network and `binary` its binarized copy.
    """

    title: str
    model: nn.Module
    binary: nn.Module
    packed: Mapping[str, nn.Module]
    """Packed forms of `binary`, or of other binary forms, by name."""
    differences: dict[str, float]
    """The largest absolute difference of outputs: of packed forms from binary ones, later of engines from torch."""
    threads: int
    rounds: int
    folder: Path
    say: Say
    absent: dict[str, str] = field(default_factory=dict)
    """The reasons why engines did not run, by the name of the engine."""

    def contenders(self, example: Any, batches: tuple[int, ...]) -> list[dict[str, Any]]:
        """Time every form of the network on the example, and on batches of these sizes that are made from it.

        Returns a row for each form that ran, the float one first: `networks` of `proxconnect bench --json`
        (docs/command-line.md), without `peak_memory` and `file`. ValueError if the network does not run on a batch.
        """
        own = next((len(tensor) for tensor in tensors_in(example) if tensor.dim()), 1)  # the size of its batch
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

    def files(self) -> dict[str, int | None]:
        """Return the bytes of the file that each form reads, by its name; None if it reads none."""
        names = {name: (file,) for name, file in FILES.items()} | {rival.name: rival.files for rival in rivals.RIVALS}
        return {
            name: next((path.stat().st_size for path in map(self.folder.joinpath, files) if path.exists()), None)
            for name, files in names.items()
        }

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
            except Exception as error:  # the others are measured whatever a converter raises
                self.absent[rival.name] = rivals.reason(error)
        return works
