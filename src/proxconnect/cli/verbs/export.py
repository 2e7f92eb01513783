"""`proxconnect export`: from a packed file to the files of other runtimes."""

import argparse
import warnings
from pathlib import Path
from typing import Any, get_args

import torch

import proxconnect
from proxconnect._support import extras
from proxconnect._support.example import tensors_in
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.networks import add_input, difference, network, require_runs, run
from proxconnect.cli.parser import Exit, Parser, epilog, output_file
from proxconnect.deploy.hardening import BinaryInputsWarning
from proxconnect.export.formats import FORMATS, Format
from proxconnect.export.gguf.writing import Remainder

_ABOUT = """
FILE is a file of `proxconnect pack` or `pc.save`. MODEL is code, since a file
never builds an architecture: a name as for `proxconnect bench`, or
MODULE:CALLABLE.

  onnx      operators of the standard, 1 bit a weight on disk; any batch
  qonnx     BipolarQuant, for FINN and hls4ml; one batch
  openvino  BinaryConvolution where inputs are binary; one batch
  float     ±α under the names of the float network, for any tool that knows it,
            as safetensors; it does not know that inputs of layers are binary
  gguf      Q1_0, 1.125 bits a weight, for llama.cpp: LLaMA, Mistral, Qwen2 and
            Qwen3 of transformers with binary weights; needs --tokenizer
"""
_EXAMPLES = """
proxconnect export net.safetensors --model my_module:net --to onnx \\
    -o net.onnx
proxconnect export net.safetensors --model my_module:net --to openvino \\
    -o net.xml --input 1 3 64 64 --json
proxconnect export net.safetensors --model my_module:net --to float \\
    -o net.float.safetensors
proxconnect export r18.safetensors --model bireal_resnet18 --to qonnx \\
    -o r18.onnx
proxconnect export llama.safetensors --model my_module:llama --to gguf \\
    -o llama.gguf --tokenizer folder
"""


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `export` to the subcommands of the parser."""
    command = commands.add_parser(
        "export",
        help="from a packed file to the files of other runtimes",
        description="Write the network of a packed file for another runtime, and compare answers if\n"
        "that runtime is installed.",
        epilog=epilog(_EXAMPLES, {Exit.DONE: "written"}, _ABOUT),
    )
    add = command.add_argument
    add("file", type=Path, metavar="FILE", help="the packed file")
    add("--model", required=True, metavar="MODEL", help="the code that builds its architecture")
    add("--to", required=True, choices=FORMATS, help="the format")
    add("-o", "--out", type=output_file, required=True, metavar="FILE", help="the file to write")
    add_input(add)
    add("--tokenizer", type=Path, metavar="FOLDER", help="gguf: the folder or tokenizer.json of the model's tokenizer")
    add("--remainder", choices=get_args(Remainder), help="gguf: the type of matrices that are not binary; default: "
        "float16")  # fmt: skip
    add("--json", action="store_true", help=JSON_HELP)
    command.set_defaults(run=lambda parsed: print_answer(parsed, _export))


@importable_folder()
def _export(parsed: argparse.Namespace) -> Answer:
    subject, target = network(parsed.model), FORMATS[parsed.to]
    options = _options(parsed, target)
    model = proxconnect.load(parsed.file, subject.build())
    if parsed.out.exists() and parsed.out.samefile(parsed.file):
        raise ValueError(f"{parsed.out} is the packed file itself: write to another one")
    example = None if target.run is None else subject.input_of(parsed.input, model)
    if target.is_graph and example is None:
        raise ValueError(f"give the shape of what {parsed.model} takes, as --input 1 3 224 224")
    with torch.no_grad():
        if example is not None:
            require_runs(subject.title, model, example)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BinaryInputsWarning)
            target.write(model, example, parsed.out, **options)
        apart: float | None = None
        not_run: str | None = "give the shape of an input, as --input 1 3 224 224"
        if target.run is None:
            not_run = f"run it with {target.runtime}"
        elif example is not None:
            try:
                runtime = target.run(parsed.out, subject.build)
                apart, not_run = difference(tensors_in(run(model, example)), runtime(example)), None
            except extras.MissingExtraError as error:
                not_run = str(error)
    lost = [str(warning.message) for warning in caught if issubclass(warning.category, BinaryInputsWarning)]
    done: dict[str, Any] = {
        "file": parsed.out,
        "format": parsed.to,
        "bytes": target.size(parsed.out),
        "packed_bytes": parsed.file.stat().st_size,
        "runtime": target.runtime,
        "largest_difference": apart,
        "not_run": not_run,
        "warnings": lost,
    }
    answered = f"not run: {not_run}"
    if apart is not None:
        answered = f"{target.runtime} answers within {apart:.1g} of the packed network"
    size = f"{done['bytes']:,} bytes, {done['bytes'] / done['packed_bytes']:.2f} times the packed file"
    return Answer(done, [f"{parsed.out}: {size}", *lost, answered])


def _options(parsed: argparse.Namespace, target: Format) -> dict[str, Any]:
    """Return the options that are given; ValueError for one of another format, and if GGUF's tokenizer is missing."""
    given = {name: getattr(parsed, name) for name in ("tokenizer", "remainder") if getattr(parsed, name) is not None}
    for name in given:
        if name not in target.options:
            raise ValueError(f"--{name} is for --to gguf alone: leave it out with --to {parsed.to}")
    if "tokenizer" in target.options and "tokenizer" not in given:
        raise ValueError("a GGUF file holds the tokenizer of its model: give the folder of one, as --tokenizer FOLDER")
    return given
