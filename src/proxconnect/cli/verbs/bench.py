"""`proxconnect bench`: how fast and how small is a network when packed, on this machine?"""

import argparse
import dataclasses
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from proxconnect._support import extras
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.bench import MODES, Options, measure, peak_memory
from proxconnect.cli.bench.benchmark import Say
from proxconnect.cli.bench.tables import shown, title_of
from proxconnect.cli.binarization import add_packing, packing_options
from proxconnect.cli.networks import add_input, network
from proxconnect.cli.parser import Exit, Parser, epilog, pair_name, picture, positive
from proxconnect.inspection import plots

_ABOUT = """
MODEL is one of ours (bireal_resnet18, react_resnet18, small_vit, resnet20, 32,
56 and bireal_resnet20, 32, 56; small_llama and llama_1b, by transformers), a
name of timm, else of torchvision, or code of yours, MODULE:CALLABLE, imported
as `python -m` does, from the current folder too: without arguments it returns a
float nn.Module. Its attribute `example`, if it has one, is the input: a tensor,
a tuple of arguments or a mapping of keyword arguments.

The weights are untrained, since the speed does not depend on them. Every round
times each network once, in turn; figures are medians.
"""
_EXAMPLES = """
proxconnect bench resnet18
proxconnect bench small_vit --mode BWA --threads 1 --batch 1 32 --plot vit.png
proxconnect bench bireal_resnet18 --mode BWA --remainder int8 --profile
proxconnect bench vit_tiny_patch16_224 --keep edges '*.mlp.*' --json
proxconnect bench small_llama --group-size 128 --remainder int8 --batch 1
proxconnect bench my_module:my_network --input 1 3 64 64
"""


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `bench` to the subcommands of the parser."""
    command = commands.add_parser(
        "bench",
        help="how fast and small is a network when packed, on this machine?",
        description="Binarize and pack a network, and measure it beside its float form: latency,\n"
        "throughput, memory, file, and each binary layer by itself. ONNX Runtime and\n"
        "OpenVINO run it too if they are installed: in float, in 8 bits, and with binary\n"
        "convolutions. A causal language model of transformers also writes, beside\n"
        "llama.cpp if llama-cpp-python or xllamacpp is installed.",
        epilog=epilog(_EXAMPLES, {Exit.DONE: "measured"}, _ABOUT),
    )
    command.add_argument("model", metavar="MODEL", help="the network to measure")
    add = command.add_argument_group("what is binary").add_argument
    add("--weights", type=pair_name, default="bnn++", metavar="PAIR", help="pair of the weights; default: bnn++")
    add("--mode", choices=MODES, default="BW", help="binary weights (default); activations too, which a ReLU before "
        "them makes useless; and the sums of their products in an accumulator of 8 bits that wraps")  # fmt: skip
    add("--keep", nargs="*", metavar="NAME", help="layers that stay float, globs, `edges` among them; alone: none; "
        "default: edges, and the network's own")  # fmt: skip
    add("--group-size", type=int, metavar="N", help="inputs of a linear layer that share a scale; default: all")
    add("--embeddings", action="store_true", help="make embeddings binary too; a tied head needs --keep alone as well")
    add_packing(command)
    add = command.add_argument_group("what is measured").add_argument
    add_input(add)
    add(
        "--batch",
        nargs="+",
        type=positive,
        default=[1, 8],
        metavar="N",
        help="batch sizes for the throughput; default: 1 8",
    )
    add("--prompt", type=positive, default=128, metavar="N", help="tokens a language model goes on from; default: 128")
    add("--tokens", type=positive, default=32, metavar="N", help="tokens that it writes; default: 32")
    add("--threads", type=positive, metavar="N", help="threads of every engine; default: torch's")
    add("--rounds", type=positive, default=11, metavar="N", help="rounds of timing; default: 11")
    add = command.add_argument_group("what is shown").add_argument
    add("--profile", action="store_true", help="where the packed network's time goes, module by module")
    add("--plot", type=picture, metavar="FILE", help="draw the latencies as .png or .svg")
    add("--json", action="store_true", help=JSON_HELP)
    command.set_defaults(run=lambda parsed: print_answer(parsed, _bench))


@importable_folder()
def _bench(parsed: argparse.Namespace) -> Answer:
    cores = os.cpu_count()
    if parsed.threads and cores and parsed.threads > cores:  # torch would end the process
        raise ValueError(f"--threads {parsed.threads} is more than the {cores} that this machine runs at once")
    if parsed.plot:
        extras.require("matplotlib.figure", "plots")
    with Console(stderr=True).status("building") as status:
        bench = _measured(parsed, status.update)
    if parsed.plot:
        networks = {title_of(one["name"]): dataclasses.astuple(one["latency"]) for one in bench["networks"]}
        layers = {
            layer["name"]: (layer["float_seconds"].median, layer["packed_seconds"].median)
            for layer in bench["layers"]
            if layer["calls"]
        }
        count = bench["machine"].threads
        title = f"{bench['model']}, {bench['mode']}, {count} thread{'s' * (count > 1)}"
        plots.save(plots.plot_latencies(networks, layers, title), parsed.plot)
    return Answer(bench, shown(bench, parsed.profile))


def _measured(parsed: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Measure in this process, and the peak memory in fresh ones."""
    subject = network(parsed.model)
    model = subject.build()
    example = subject.input_of(parsed.input, model)
    if example is None:
        raise ValueError(f"give the shape of what {parsed.model} takes with --input, as --input 1 3 224 224, or the "
                         "callable an attribute `example`")  # fmt: skip
    options = Options(
        weights=parsed.weights, mode=parsed.mode, group_size=parsed.group_size, embeddings=parsed.embeddings,
        packing=packing_options(parsed),
        keep=tuple(subject.keep if parsed.keep is None else parsed.keep) or None, rounds=parsed.rounds,
        threads=parsed.threads or torch.get_num_threads(), batches=tuple(dict.fromkeys(parsed.batch)),
        prompt=parsed.prompt, tokens=parsed.tokens,
    )  # fmt: skip
    with TemporaryDirectory() as place:
        folder = Path(place)
        bench = measure(subject.title, model, example, options, folder, say)
        say("running each in a fresh process, for its memory")
        peaks = peak_memory.peaks(parsed.model, example, folder, options.threads)
    if isinstance(peaks, str):
        return {**bench, "absent": {**bench["absent"], "peak memory": peaks}}
    return {**bench, "networks": [{**one, "peak_memory": peaks.get(one["name"])} for one in bench["networks"]]}
